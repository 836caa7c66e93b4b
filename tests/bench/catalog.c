/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
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
 * The catalog at size: fills a store with image records, serves it by two imageds of this process, and
 * measures over HTTP. Usage: bench-catalog STORE-URL [IMAGES]   (an empty store; default 100000)
 */
#define ROUNDS 101
#define TOKEN "0123456789abcdef-bench"

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

/* Median of ROUNDS calls; the last answer goes to ret. */
static double calls(struct http_client *c, const char *method, const char *path, const json_t *body,
                    json_t **ret)
{
        int64_t ns[ROUNDS];
        struct err err = {0};

        for (int i = 0; i < ROUNDS; i++) {
                json_t *reply = NULL;
                int64_t begin = clock_ns();

                if (http_call(c, method, path, body, &reply, NULL, &err) < 0) {
                        fprintf(stderr, "%s %s: %s\n", method, path, err_text(&err));
                        exit(1);
                }
                ns[i] = clock_ns() - begin;
                json_decref(*ret);
                *ret = reply;
        }
        return median_ms(ns, ROUNDS);
}

static int report(const char *what, double value, double limit, const char *unit)
{
        printf("%-44s %9.2f %-6s limit %8.2f  %s\n", what, value, unit, limit,
               value <= limit ? "ok" : "TOO MUCH");
        return value > limit;
}

/* Until the second imaged's list shows what the first made. */
static double agree_ms(struct http_client *one, struct http_client *two)
{
        _cleanup_(json_decrefpp) json_t *body =
            json_pack("{s:s,s:s}", "name", "agree", "disk_format", "raw");
        _cleanup_(json_decrefpp) json_t *made = NULL;
        struct err err = {0};
        int64_t begin;

        poll(NULL, 0, 5); /* the newest of all, also by the clock's milliseconds */
        if (http_call(one, "POST", "/v2/images", body, &made, NULL, &err) < 0) {
                fprintf(stderr, "%s\n", err_text(&err));
                return 1e9;
        }
        begin = clock_ns();
        while (clock_ns() - begin < 10000000000) {
                _cleanup_(json_decrefpp) json_t *list = NULL;

                if (http_call(two, "GET", "/v2/images?limit=100", NULL, &list, NULL, &err) < 0) {
                        fprintf(stderr, "%s\n", err_text(&err));
                        return 1e9;
                }
                if (streq(json_get_str(json_array_get(json_object_get(list, "images"), 0), "id", NULL),
                          json_get_str(made, "id", "")))
                        return (double)(clock_ns() - begin) / 1e6;
                poll(NULL, 0, 5);
        }
        return 1e9;
}

/* A create beside the store's own compare-and-swap of the same record, turn by turn. */
static int create_ratio(struct store *s, struct http_client *c)
{
        _cleanup_(json_decrefpp) json_t *body =
            json_pack("{s:s,s:s,s:s}", "name", "made", "disk_format", "raw", "os", "debian");
        int64_t create[ROUNDS], swap[ROUNDS];
        double create_ms, swap_ms;

        for (int i = 0; i < ROUNDS; i++) {
                int64_t begin = clock_ns();

                if (record_add(s, i, NULL) < 0)
                        return 1;
                swap[i] = clock_ns() - begin;
                begin = clock_ns();
                if (http_call(c, "POST", "/v2/images", body, NULL, NULL, NULL) < 0)
                        return 1;
                create[i] = clock_ns() - begin;
        }
        create_ms = median_ms(create, ROUNDS);
        swap_ms = median_ms(swap, ROUNDS);
        return report("create, beside a compare-and-swap", create_ms, 2 * swap_ms, "ms");
}

static int measure(struct store *s, struct http_client *one, struct http_client *two)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        _cleanup_(freep) char *next = NULL, *show = NULL;
        int missed = 0;
        int64_t begin = clock_ns();

        http_call(one, "GET", "/v2/images?limit=1", NULL, NULL, NULL, NULL);
        printf("%-44s %9.2f ms\n", "the first list after a start", (double)(clock_ns() - begin) / 1e6);
        http_call(two, "GET", "/v2/images?limit=1", NULL, NULL, NULL, NULL);
        missed += report("list of 100", calls(one, "GET", "/v2/images?limit=100", NULL, &reply), 10, "ms");
        next = strdup(json_get_str(reply, "next", "/v2/images?limit=100"));
        show = str_printf("/v2/images/%s",
                          json_get_str(json_array_get(json_object_get(reply, "images"), 50), "id", ""));
        missed += report("list of 100 behind a marker", calls(one, "GET", next, NULL, &reply), 10, "ms");
        missed += report("list of 100 by tag",
                         calls(one, "GET", "/v2/images?limit=100&tag=odd", NULL, &reply), 10, "ms");
        missed += report("show", calls(one, "GET", show, NULL, &reply), 10, "ms");
        printf("%-44s %9.2f ms\n", "by name", calls(one, "GET", "/v2/images?name=image-7", NULL, &reply));
        printf("%-44s %9.2f ms\n", "an alias", calls(one, "GET", "/v1/images/debian:12", NULL, &reply));
        missed += create_ratio(s, one);
        missed += report("until another imaged lists it", agree_ms(one, two), 2000, "ms");
        return missed;
}

static int serve(const char *url, struct imaged **ret, struct http_client **ret_client, struct err *err)
{
        const struct imaged_options o = {
            .store_url = url,
            .listen = "127.0.0.1:0",
            .token = TOKEN,
            .network = {"br0", "10.77.0.0/16", "10.77.0.10", "10.77.255.250", "10.77.0.1", ""},
            .stale_ms = 60000};
        _cleanup_(freep) char *base = NULL;
        int r = imaged_new(&o, ret, err);

        if (r < 0)
                return r;
        base = str_printf("http://127.0.0.1:%u", imaged_port(*ret));
        return http_client_new(base, TOKEN, 60000, ret_client, err);
}

int main(int argc, char **argv)
{
        long n = argc > 2 ? atol(argv[2]) : 100000;
        struct store_options so = {0};
        struct store *s = NULL;
        struct imaged *one = NULL, *two = NULL;
        struct http_client *c1 = NULL, *c2 = NULL;
        struct err err = {0};
        int64_t begin;
        int r;

        if (argc < 2 || n < 1000)
                return fprintf(stderr, "usage: bench-catalog STORE-URL [IMAGES, at least 1000]\n"), 2;
        log_level(LOG_ERR);
        r = store_open(argv[1], &so, &s, &err);
        if (r == 0)
                r = store_prepare(s, &err);
        begin = clock_ns();
        for (long i = 0; r == 0 && i < n; i++)
                r = record_add(s, i, &err);
        printf("%ld images, %.2f ms each to write\n", n, (double)(clock_ns() - begin) / 1e6 / (double)n);
        if (r == 0)
                r = serve(argv[1], &one, &c1, &err);
        if (r == 0)
                r = serve(argv[1], &two, &c2, &err);
        if (r == 0)
                r = measure(s, c1, c2);
        else
                fprintf(stderr, "bench-catalog: %s\n", err_text(&err));
        http_client_free(c1);
        http_client_free(c2);
        imaged_free(one);
        imaged_free(two);
        store_close(s);
        return r == 0 ? 0 : 1;
}
