/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/log.h"
#include "imaged/imaged.h"
#include "imaged/store/store.h"

/*
 * The catalog at size: fills an empty store with image records, serves it by two imageds of this process,
 * and measures over HTTP. Prints a figure a line, as JSON: {"name", "value", "unit", "limit" (null: none),
 * "runs"}; values are medians. scripts/bench catalog runs it.
 */
#define USAGE "usage: bench-catalog STORE-URL IMAGES ROUNDS [CEPH_CONF CEPH_USER]\n"
#define TOKEN "0123456789abcdef-bench"
#define FILLERS 8

struct bench {
        struct store *store;
        struct http_client *one, *two; /* two imageds */
        long images;
        int rounds;
        int64_t *ns, *swap_ns; /* of each round */
};

static int compare(const void *a, const void *b)
{
        const int64_t *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

static double median_ms(int64_t *ns, size_t n)
{
        qsort(ns, n, sizeof(*ns), compare);
        return (double)ns[n / 2] / 1e6;
}

static json_t *record_make(const char *id, long i)
{
        long minute = i / 60;
        json_t *r = json_pack("{s:s,s:o,s:s,s:s,s:s,s:I,s:I,s:i,s:i,s:s,s:b,s:b,s:s,s:[s,s],s:n,s:s}", "id",
                              id, "name", json_sprintf("image-%ld", i), "status", "active", "disk_format",
                              "raw", "container_format", "bare", "size", (json_int_t)1 << 30, "virtual_size",
                              (json_int_t)1 << 30, "min_disk", 0, "min_ram", 0, "visibility",
                              i % 10 ? "shared" : "public", "protected", 0, "os_hidden", 0, "owner", "admin",
                              "tags", "bench", i % 2 ? "odd" : "even", "import", "os_hash_algo", "sha256");
        json_t *at = json_sprintf("2025-%02ld-%02ldT%02ld:%02ld:%02ld.%03ldZ", 1 + minute / 40320 % 12,
                                  1 + minute / 1440 % 28, minute / 60 % 24, minute % 60, i % 60, i % 1000);

        json_object_set(r, "created_at", at);
        json_object_set_new(r, "updated_at", at);
        json_object_set_new(r, "os", json_string(i % 3 ? "debian" : "ubuntu"));
        json_object_set_new(r, "version", json_sprintf("%ld", i % 13));
        return r;
}

static int record_add(struct store *s, long i, struct err *err)
{
        char id[UUID_LEN + 1];
        _cleanup_(json_decrefpp) json_t *record = NULL;
        _cleanup_(freep) char *text = NULL;

        uuid_random(id);
        record = record_make(id, i);
        text = json_text(record);
        return record_put(s, RECORD_IMAGE, id, 0, text, NULL, err);
}

static void report(const char *name, double ms, double limit, int runs)
{
        _cleanup_(json_decrefpp) json_t *figure =
            json_pack("{s:s,s:f,s:s,s:o,s:i}", "name", name, "value", ms, "unit", "ms", "limit",
                      limit > 0 ? json_real(limit) : json_null(), "runs", runs);
        _cleanup_(freep) char *text = json_text(figure);

        puts(text);
        fflush(stdout);
}

static void die(const char *what, const struct err *err)
{
        fprintf(stderr, "bench-catalog: %s: %s\n", what, err_text(err));
        exit(1);
}

/* One after the other; the last answer goes to ret. */
static void calls(struct bench *b, const char *name, const char *path, double limit, json_t **ret)
{
        struct err err = {0};

        for (int i = 0; i < b->rounds; i++) {
                json_t *reply = NULL;
                int64_t begin = clock_ns();

                if (http_call(b->one, "GET", path, NULL, &reply, NULL, &err) < 0)
                        die(path, &err);
                b->ns[i] = clock_ns() - begin;
                json_decref(*ret);
                *ret = reply;
        }
        report(name, median_ms(b->ns, (size_t)b->rounds), limit, b->rounds);
}

/* Until the second imaged's list shows what the first made. */
static void agree(struct bench *b)
{
        _cleanup_(json_decrefpp) json_t *body =
            json_pack("{s:s,s:s}", "name", "agree", "disk_format", "raw");
        _cleanup_(json_decrefpp) json_t *made = NULL;
        struct err err = {0};
        bool seen = false;
        int64_t begin;

        poll(NULL, 0, 5); /* the newest of all, also by the clock's milliseconds */
        if (http_call(b->one, "POST", "/v2/images", body, &made, NULL, &err) < 0)
                die("create", &err);
        begin = clock_ns();
        while (!seen) {
                _cleanup_(json_decrefpp) json_t *list = NULL;

                if (http_call(b->two, "GET", "/v2/images?limit=100", NULL, &list, NULL, &err) < 0)
                        die("list", &err);
                seen = streq(json_get_str(json_array_get(json_object_get(list, "images"), 0), "id", NULL),
                             json_get_str(made, "id", ""));
                if (!seen && clock_ns() - begin > 60000000000) {
                        err_set(&err, -ETIMEDOUT, "a minute later it does not show what another made");
                        die("list", &err);
                }
                if (!seen)
                        poll(NULL, 0, 5);
        }
        report("until another imaged lists it", (double)(clock_ns() - begin) / 1e6, 2000, 1);
}

/* A create beside the store's own compare-and-swap of the same record, turn by turn. */
static void create(struct bench *b)
{
        _cleanup_(json_decrefpp) json_t *body =
            json_pack("{s:s,s:s,s:s}", "name", "made", "disk_format", "raw", "os", "debian");
        struct err err = {0};
        double swap_ms;

        for (int i = 0; i < b->rounds; i++) {
                int64_t begin = clock_ns();

                if (record_add(b->store, i, &err) < 0)
                        die("compare-and-swap", &err);
                b->swap_ns[i] = clock_ns() - begin;
                begin = clock_ns();
                if (http_call(b->one, "POST", "/v2/images", body, NULL, NULL, &err) < 0)
                        die("create", &err);
                b->ns[i] = clock_ns() - begin;
        }
        swap_ms = median_ms(b->swap_ns, (size_t)b->rounds);
        report("a compare-and-swap of the store", swap_ms, 0, b->rounds);
        report("create (limit: two of these)", median_ms(b->ns, (size_t)b->rounds), 2 * swap_ms, b->rounds);
}

static void first_list(struct bench *b)
{
        struct err err = {0};
        int64_t begin = clock_ns();

        if (http_call(b->one, "GET", "/v2/images?limit=1", NULL, NULL, NULL, &err) < 0)
                die("list", &err);
        report("first list after a start", (double)(clock_ns() - begin) / 1e6, 0, 1);
        if (http_call(b->two, "GET", "/v2/images?limit=1", NULL, NULL, NULL, &err) < 0)
                die("list", &err);
}

static void measure(struct bench *b)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        _cleanup_(freep) char *next = NULL, *show = NULL;

        first_list(b);
        calls(b, "list of 100", "/v2/images?limit=100", 10, &reply);
        report("list of 100, the slowest", (double)b->ns[b->rounds - 1] / 1e6, 0,
               b->rounds); /* sorted by now */
        next = strdup(json_get_str(reply, "next", ""));
        show = str_printf("/v2/images/%s",
                          json_get_str(json_array_get(json_object_get(reply, "images"), 50), "id", ""));
        calls(b, "list of 100 behind a marker", next, 10, &reply);
        calls(b, "list of 100 by tag", "/v2/images?limit=100&tag=odd", 10, &reply);
        calls(b, "show", show, 10, &reply);
        calls(b, "list by name", "/v2/images?name=image-7", 0, &reply);
        calls(b, "show by an alias", "/v1/images/debian:12", 0, &reply);
        create(b);
        agree(b);
}

static void serve(const struct imaged_options *options, struct imaged **ret, struct http_client **ret_client)
{
        _cleanup_(freep) char *base = NULL;
        struct err err = {0};

        if (imaged_new(options, ret, &err) < 0)
                die("imaged", &err);
        base = str_printf("http://127.0.0.1:%u", imaged_port(*ret));
        if (http_client_new(base, TOKEN, 60000, ret_client, &err) < 0)
                die("client", &err);
}

/* A thread's share of the records. */
struct filler {
        struct bench *bench;
        pthread_t thread;
        long first;
};

static void *fill_some(void *arg)
{
        struct filler *f = arg;
        struct err err = {0};

        for (long i = f->first; i < f->bench->images; i += FILLERS)
                if (record_add(f->bench->store, i, &err) < 0)
                        die("filling the store", &err);
        return NULL;
}

static void fill(struct bench *b)
{
        struct filler fillers[FILLERS];
        int64_t begin = clock_ns();

        for (long i = 0; i < FILLERS; i++) {
                fillers[i] = (struct filler){.bench = b, .first = i};
                if (pthread_create(&fillers[i].thread, NULL, fill_some, &fillers[i]) != 0)
                        die("a thread", &(struct err){0});
        }
        for (int i = 0; i < FILLERS; i++)
                pthread_join(fillers[i].thread, NULL);
        report("filling, each image", (double)(clock_ns() - begin) / 1e6 / (double)b->images, 0, 1);
}

int main(int argc, char **argv)
{
        struct store_options so = {.ceph_conf = argc > 4 ? argv[4] : NULL,
                                   .ceph_user = argc > 5 ? argv[5] : NULL};
        struct imaged_options o = {
            .ceph_conf = so.ceph_conf,
            .ceph_user = so.ceph_user,
            .listen = "127.0.0.1:0",
            .token = TOKEN,
            .network = {"br0", "10.77.0.0/16", "10.77.0.10", "10.77.255.250", "10.77.0.1", ""},
            .stale_ms = 60000};
        struct bench b = {.images = argc > 2 ? atol(argv[2]) : 0, .rounds = argc > 3 ? atoi(argv[3]) : 0};
        struct imaged *one = NULL, *two = NULL;
        struct err err = {0};

        if (b.images < 1000 || b.rounds < 1)
                return fputs(USAGE "IMAGES: at least 1000\n", stderr), 2;
        log_level(LOG_ERR);
        o.store_url = argv[1];
        b.ns = calloc((size_t)b.rounds, sizeof(*b.ns));
        b.swap_ns = calloc((size_t)b.rounds, sizeof(*b.swap_ns));
        if (!b.ns || !b.swap_ns || store_open(argv[1], &so, &b.store, &err) < 0 ||
            store_prepare(b.store, &err) < 0)
                die(argv[1], &err);
        fill(&b);
        serve(&o, &one, &b.one);
        serve(&o, &two, &b.two);
        measure(&b);
        http_client_free(b.one);
        http_client_free(b.two);
        imaged_free(one);
        imaged_free(two);
        store_close(b.store);
        free(b.ns);
        free(b.swap_ns);
        return 0;
}
