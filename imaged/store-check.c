/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store-check.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/http-client.h"
#include "common/json.h"
#include "imaged/hosts.h"
#include "imaged/records.h"
#include "migrate/planner.h"

#define CHECK_MS                                                                                            \
        20000 /* a host's self-test takes two operations' time limits at most, and is asked once            \
               */
#define AT_ONCE 16

/* One host that is asked. Each on a thread: one that does not answer must not hold up the others. */
struct asking {
        struct imaged *im;
        unsigned number;
        const char *name;
        bool alive;
        pthread_t thread;
        bool started;
        bool ok;
        char text[512];
        json_t *findings; /* the host's own; NULL: none */
};

static void *ask_host(void *arg)
{
        struct asking *a = arg;
        _cleanup_(freep) char *api = hosts_api(a->im->hosts, a->number);
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        struct http_client *client = NULL;
        struct err err = {0};
        int r = -ENOENT;

        if (!a->alive) {
                snprintf(a->text, sizeof(a->text), "not asked: the host is not alive");
                return NULL;
        }
        if (api)
                r = http_client_new(api, a->im->hostd_token, CHECK_MS, &client, &err);
        if (r == 0)
                r = http_call(client, "POST", "/v1/store-check", NULL, &reply, NULL, &err);
        http_client_free(client);
        a->ok = r == 0 && json_get_bool(reply, "ok", false);
        a->findings = json_incref(json_object_get(reply, "findings"));
        snprintf(a->text, sizeof(a->text), "%s%s", r < 0 ? "cannot be asked: " : "",
                 r < 0 ? err_text(&err) : json_get_str(reply, "text", ""));
        return NULL;
}

static void ask_hosts(struct asking *list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                list[i].started = pthread_create(&list[i].thread, NULL, ask_host, &list[i]) == 0;
        for (size_t i = 0; i < n; i++) {
                if (list[i].started)
                        pthread_join(list[i].thread, NULL);
                else
                        ask_host(&list[i]);
        }
}

/* ok: 1, 0, or -1 where nobody could be asked. */
static int place_add(json_t *reply, const char *place, unsigned number, int ok, const char *text)
{
        json_t *j = json_pack("{s:s,s:i,s:o,s:s}", "place", place, "number", (int)number, "ok",
                              ok < 0 ? json_null() : json_boolean(ok), "text", text);

        return json_array_append_new(json_object_get(reply, "places"), j);
}

static int check_here(struct imaged *im, json_t *reply)
{
        struct err err = {0};
        int r = store_selftest(im->store, &err);
        _cleanup_(freep) char *text = NULL;

        if (r > 0)
                text = strdup("the store's fence holds");
        else
                text = str_printf("%s%s", r < 0 ? "it could not be tried: " : "", err_text(&err));
        return place_add(reply, "imaged", 0, r > 0, text ? text : "");
}

/* What several hosts say alike is said once, with their names. */
static int findings_add(json_t *reply, const struct asking *a)
{
        json_t *all = json_object_get(reply, "findings");
        const json_t *f;
        size_t i, k;

        json_array_foreach (a->findings, i, f) {
                json_t *same = NULL, *old;

                json_array_foreach (all, k, old)
                        if (streq(json_get_str(old, "code", ""), json_get_str(f, "code", "?")) &&
                            streq(json_get_str(old, "text", ""), json_get_str(f, "text", "?")))
                                same = old;
                if (!same) {
                        same = json_pack("{s:s,s:s,s:s,s:[]}", "code", json_get_str(f, "code", "?"), "text",
                                         json_get_str(f, "text", ""), "advice",
                                         json_get_str(f, "advice", ""), "hosts");
                        if (json_array_append_new(all, same) < 0)
                                return -ENOMEM;
                }
                if (json_array_append_new(json_object_get(same, "hosts"), json_string(a->name)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int check_hosts(struct imaged *im, json_t *reply, struct err *err)
{
        struct planner_host *hosts = NULL;
        _cleanup_(freep) struct asking *list = NULL;
        size_t n = 0;
        int r = hosts_view(im->hosts, &hosts, &n, err);

        if (r < 0)
                return r;
        list = calloc(n + 1, sizeof(*list));
        for (size_t i = 0; list && i < n; i++)
                list[i] = (struct asking){
                    .im = im, .number = hosts[i].number, .name = hosts[i].name, .alive = hosts[i].alive};
        for (size_t i = 0; list && i < n; i += AT_ONCE)
                ask_hosts(list + i, MIN_OF(n - i, AT_ONCE));
        r = list ? 0 : -ENOMEM;
        for (size_t i = 0; list && i < n; i++) {
                if (r == 0)
                        r = place_add(reply, list[i].name, list[i].number, list[i].alive ? list[i].ok : -1,
                                      list[i].text);
                if (r == 0)
                        r = findings_add(reply, &list[i]);
                json_decref(list[i].findings);
        }
        hosts_view_free(hosts, n);
        return r < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

/* Machines are told apart by the kernel's boot id, which each hostd writes into its record. */
static bool many_machines(struct imaged *im)
{
        _cleanup_(freep) char *own = NULL;
        struct planner_host *hosts = NULL;
        bool many = false;
        size_t n = 0;

        if (file_read("/proc/sys/kernel/random/boot_id", 64, &own, NULL, NULL) < 0)
                return false;
        own[strcspn(own, "\n")] = '\0';
        if (hosts_view(im->hosts, &hosts, &n, NULL) < 0)
                return false;
        for (size_t i = 0; i < n && !many; i++) {
                _cleanup_(json_decrefpp) json_t *record = hosts_record(im->hosts, hosts[i].number);

                many = hosts[i].alive && !streq(json_get_str(record, "boot_id", own), own);
        }
        hosts_view_free(hosts, n);
        return many;
}

static int finding_add(void *arg, const struct store_finding *f)
{
        json_t *j = json_pack("{s:s,s:s,s:s}", "code", f->code, "text", f->text, "advice", f->advice);

        return json_array_append_new(arg, j) < 0 ? -ENOMEM : 0;
}

int store_on_check(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *reply =
            json_pack("{s:s,s:s,s:[],s:[]}", "url", store_url(im->store), "engine", store_engine(im->store),
                      "places", "findings");
        json_t *findings = json_object_get(reply, "findings");
        const json_t *place;
        bool ok = true;
        size_t i;
        int r;

        if (!reply || check_here(im, reply) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        r = check_hosts(im, reply, err);
        if (r == 0) {
                r = store_diagnose(im->store, many_machines(im), finding_add, findings, err);
                if (r < 0)
                        r = err_wrap(err, records_code(r),
                                     "looking for mistakes in the set-up of the store");
        }
        if (r < 0)
                return r;
        json_array_foreach (json_object_get(reply, "places"), i, place)
                ok = ok && json_get_bool(place, "ok", true); /* null: a host that is away */
        json_object_set_new(reply, "ok", json_boolean(ok && json_array_size(findings) == 0));
        return http_reply_json(req, 200, reply);
}
