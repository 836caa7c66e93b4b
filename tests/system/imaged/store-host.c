/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/http-server.h"
#include "common/json.h"
#include "imaged/store/store.h"

/*
 * A host as imaged sees one, without guests: its record, its heartbeats, its hostd's HTTP calls, and the
 * claims and records of instances that are placed on it, made with the real store library. (The lab's
 * stories run the real hostd.)
 *
 *   store-host STORE-URL NUMBER CPUS MEMORY TOKEN
 *   store-host STORE-URL receipt INSTANCE-ID JSON     adds a failover's receipt to a record, as hostd does
 */
struct host {
        struct store *store;
        unsigned number;
        char *token;
        struct http_server *server;
};

static const struct disk_spec disks[] = {{.name = "disk0"}, {.name = "seed"}};
static atomic_bool ending;

static void on_signal(int sig)
{
        ending = true;
}

static int get(struct host *h, const char *id, json_t **ret, uint64_t *version, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        int r = record_get(h->store, RECORD_INSTANCE, id, &text, version, err);

        return r < 0 ? r : json_parse(text, id, ret, err);
}

static int put(struct host *h, const char *id, const json_t *record, uint64_t version, struct err *err)
{
        _cleanup_(freep) char *text = record ? json_text(record) : NULL;

        return record_put(h->store, RECORD_INSTANCE, id, version, text, NULL, err);
}

static void status(json_t *record, const char *state, const struct lease *lease)
{
        json_t *s = json_object_get(record, "status");

        json_object_set_new(s, "state", json_string(state));
        json_object_set_new(s, "host", json_integer(lease->host));
        json_object_set_new(s, "epoch", json_integer((json_int_t)lease->epoch));
        json_object_set_new(s, "restart", json_integer(json_get_int(record, "restart", 0)));
}

static int look(struct host *h, const char *id, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        uint64_t version;
        struct lease lease;
        const char *wanted;
        bool starts;
        int r;

        r = get(h, id, &record, &version, err);
        if (r == 0)
                r = lease_find(h->store, id, &lease, err);
        if (r < 0)
                return r;
        wanted = json_get_str(record, "wanted", "");
        starts = streq(wanted, "running") &&
                 !streq(json_get_str(json_object_get(record, "status"), "state", NULL), "running");
        if (lease.host != h->number || starts) { /* every run is a claim */
                json_t *p = json_object_get(record, "placement");

                if (lease.host != h->number && (json_get_int(p, "host", 0) != h->number ||
                                                (uint64_t)json_get_int(p, "epoch", -1) != lease.epoch))
                        return 0;
                r = lease_claim(h->store, id, &lease, h->number, false, &lease, err);
                if (r < 0)
                        return r;
        }
        if (streq(wanted, "deleted")) {
                r = lease_remove(h->store, id, &lease, disks, ARRAY_SIZE(disks), err);
                if (r < 0)
                        return r;
                status(record, "deleted", &lease); /* the rest is imaged's */
                return put(h, id, record, version, err);
        }
        status(record, streq(wanted, "running") ? "running" : "stopped", &lease);
        return put(h, id, record, version, err);
}

static int on_look(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body = NULL;
        int r = http_body_json(req, &body, err);

        if (r == 0)
                r = look(userdata, json_get_str(body, "instance", ""), err);
        return r < 0 ? r : http_reply_json(req, 202, NULL);
}

static int on_migration(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply =
            json_pack("{s:s,s:i}", "state", "active", "transferred", 4711);

        return http_reply_json(req, 200, reply);
}

static void echo(void *state, int fd, const void *early, size_t n_early)
{
        char buf[256];
        ssize_t n;

        if (write_full(fd, "login: ", 7) < 0)
                return;
        while ((n = read(fd, buf, sizeof(buf))) > 0 && write_full(fd, buf, (size_t)n) == 0)
                ;
}

static int on_console(struct http_request *req, void *userdata, struct err *err)
{
        return http_reply_upgrade(req, "wherry-console", echo, NULL) < 0
                   ? err_set(err, -EINVAL, "no upgrade")
                   : 0;
}

static int on_store_check(struct http_request *req, void *userdata, struct err *err)
{
        struct host *h = userdata;
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        int verdict = store_selftest(h->store, err);

        reply = json_pack("{s:b,s:s,s:[]}", "ok", verdict > 0, "text",
                          verdict > 0 ? "the store's fence holds" : err_text(err), "findings");
        if (getenv("WHERRY_TEST_FINDING"))
                json_array_append_new(json_object_get(reply, "findings"),
                                      json_pack("{s:s,s:s,s:s}", "code", "test", "text",
                                                getenv("WHERRY_TEST_FINDING"), "advice", "mend it"));
        return http_reply_json(req, 200, reply);
}

static const struct http_route routes[] = {
    {"POST", "/v1/store-check", on_store_check, NULL, false},
    {"POST", "/v1/look", on_look, NULL, false},
    {"GET", "/v1/instances/{id}/migration", on_migration, NULL, false},
    {"GET", "/v1/instances/{id}/console", on_console, NULL, false},
};

static int announce(struct host *h, int cpus, long long memory, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        _cleanup_(freep) char *text = NULL, *old = NULL;
        uint64_t version = 0;
        char id[16];

        snprintf(id, sizeof(id), "%u", h->number);
        record = json_pack("{s:s,s:i,s:o,s:o,s:s,s:i,s:i,s:I,s:b}", "id", id, "number", (int)h->number,
                           "name", json_sprintf("host%u", h->number), "api",
                           json_sprintf("http://127.0.0.1:%u", http_server_port(h->server)), "state", "up",
                           "epoch", 1, "cpus", cpus, "memory", (json_int_t)memory, "drained", 0);
        if (getenv("WHERRY_TEST_BOOT_ID"))
                json_object_set_new(record, "boot_id", json_string(getenv("WHERRY_TEST_BOOT_ID")));
        text = json_text(record);
        record_get(h->store, RECORD_HOST, id, &old, &version, NULL);
        return record_put(h->store, RECORD_HOST, id, version, text, NULL, err);
}

static int add_receipt(const char *url, const char *id, const char *text, struct err *err)
{
        struct store_options so = {0};
        struct host h = {0};
        json_t *record = NULL, *receipt = NULL;
        uint64_t version;
        int r = store_open(url, &so, &h.store, err);

        if (r == 0)
                r = get(&h, id, &record, &version, err);
        if (r == 0)
                r = json_parse(text, "receipt", &receipt, err);
        if (r == 0) {
                json_array_append(json_object_get(record, "receipts"), receipt);
                r = put(&h, id, record, version, err);
        }
        json_decref(receipt);
        json_decref(record);
        store_close(h.store);
        return r;
}

int main(int argc, char **argv)
{
        struct store_options so = {0};
        struct host h = {.number = argc > 5 ? (unsigned)atoi(argv[2]) : 0};
        struct http_server_options ho = {.listen = "127.0.0.1:0",
                                         .token = argc > 5 ? argv[5] : NULL,
                                         .routes = routes,
                                         .n_routes = ARRAY_SIZE(routes),
                                         .userdata = &h};
        struct err err = {0};
        int r;

        if (argc == 5 && strcmp(argv[2], "receipt") == 0) {
                r = add_receipt(argv[1], argv[3], argv[4], &err);
                if (r < 0)
                        fprintf(stderr, "store-host: %s\n", err_text(&err));
                return r < 0;
        }
        if (argc != 6) {
                fprintf(stderr, "usage: store-host STORE-URL NUMBER CPUS MEMORY TOKEN\n");
                return 2;
        }
        signal(SIGTERM, on_signal);
        r = store_open(argv[1], &so, &h.store, &err);
        if (r == 0)
                r = http_server_new(&ho, &h.server, &err);
        if (r == 0)
                r = http_server_start(h.server, &err);
        if (r == 0)
                r = announce(&h, atoi(argv[3]), atoll(argv[4]), &err);
        for (uint64_t beat = random_u64() >> 8; r == 0 && !ending; beat++) {
                r = beat_write(h.store, h.number, beat, &err);
                poll(NULL, 0, 500);
        }
        if (r < 0)
                fprintf(stderr, "store-host: %s\n", err_text(&err));
        http_server_free(h.server);
        store_close(h.store);
        return r < 0 ? 1 : 0;
}
