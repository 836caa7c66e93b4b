/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "imaged/drill.h"
#include "imaged/events.h"
#include "imaged/hosts.h"
#include "imaged/records.h"

/* What an operator asks about hosts, beside their list: the drill, and maintenance. */

static const struct drill_instance *instance_of(const struct drill *d, unsigned host, const char *id)
{
        size_t n;
        const struct drill_instance *list = drill_of(d, host, &n);

        for (size_t i = 0; i < n; i++)
                if (streq(list[i].id, id))
                        return &list[i];
        return NULL;
}

static const char *host_name(const struct drill *d, unsigned number)
{
        for (size_t i = 0; i < d->n_hosts; i++)
                if (d->hosts[i].number == number)
                        return d->hosts[i].name;
        return NULL;
}

/* Why nobody would take over that host, into buf; NULL: somebody would. */
static const char *disarmed(struct imaged *im, const struct drill *d, unsigned dead, char *buf, size_t len)
{
        _cleanup_(json_decrefpp) json_t *record = hosts_record(im->hosts, dead);
        bool other = false, fence = false;

        if (json_get_bool(record, "maintenance", false)) {
                snprintf(buf, len,
                         "host %s is in maintenance, so nobody would take it over until \"wherry host "
                         "maintenance %s off\"",
                         host_name(d, dead), host_name(d, dead));
                return buf;
        }
        for (size_t i = 0; i < d->n_hosts && !fence; i++) {
                _cleanup_(json_decrefpp) json_t *h = NULL;

                if (d->hosts[i].number == dead || !d->hosts[i].alive)
                        continue;
                other = true;
                h = hosts_record(im->hosts, d->hosts[i].number);
                fence = json_get_bool(json_object_get(h, "fence"), "ok", true);
        }
        if (fence)
                return NULL;
        snprintf(buf, len, "%s",
                 other
                     ? "on no other living host does the store's fence hold, so nobody would take it over; "
                       "see \"wherry store check\""
                     : "there is no other living host");
        return buf;
}

static json_t *item_json(const struct drill *d, unsigned dead, const struct failover_item *item)
{
        const struct drill_instance *i = instance_of(d, dead, item->instance);
        const char *group = i && i->group ? strchr(i->group, '/') : NULL;
        bool fits = item->state == FAILOVER_DONE;
        json_t *j =
            json_pack("{s:s,s:s,s:i,s:i,s:I,s:s?,s:n,s:s?,s:s?}", "id", item->instance, "name",
                      i ? i->name : "", "priority", item->priority, "cpus", (int)item->cpus, "memory",
                      (json_int_t)item->memory, "group", group ? group + 1 : NULL, "to", "to_name",
                      fits ? host_name(d, item->target) : NULL, "reason", fits ? NULL : item->reason);

        if (j && fits)
                json_object_set_new(j, "to", json_integer(item->target));
        return j;
}

/* One host's drill as the API tells it. */
static int drill_json(struct imaged *im, const struct drill *d, unsigned dead, json_t **ret, struct err *err)
{
        _cleanup_(freep) struct failover_item *items = NULL;
        json_t *list = json_array();
        const char *why;
        size_t n = 0, unplaced = 0;
        char buf[256];
        int r = drill_run(d, dead, &items, &n, err);

        for (size_t i = 0; r == 0 && i < n; i++) {
                unplaced += items[i].state != FAILOVER_DONE;
                if (json_array_append_new(list, item_json(d, dead, &items[i])) < 0)
                        r = err_set(err, -ENOMEM, "out of memory");
        }
        if (r < 0) {
                json_decref(list);
                return r;
        }
        why = disarmed(im, d, dead, buf, sizeof(buf));
        *ret = json_pack("{s:i,s:s?,s:b,s:s?,s:b,s:o}", "number", (int)dead, "name", host_name(d, dead),
                         "armed", why == NULL, "disarmed", why, "fits", unplaced == 0, "instances", list);
        return *ret ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int host_on_drill(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        struct drill d = {0};
        unsigned dead;
        int r = hosts_number(im->hosts, http_param(req, "id"), &dead, err);

        if (r == 0)
                r = drill_look(im, NULL, &d, err);
        if (r == 0)
                r = drill_json(im, &d, dead, &reply, err);
        drill_done(&d);
        return r < 0 ? r : http_reply_json(req, 200, reply);
}

#define NAMED 4

/* "host h1: 2 of 3 instances would find no room (db1, web3)", in fresh memory. */
static char *loss_text(const struct drill *d, unsigned dead, const struct failover_item *items, size_t n,
                       size_t unplaced)
{
        char names[NAMED * 70] = "";
        size_t told = 0;

        for (size_t i = 0; i < n && told < NAMED; i++) {
                const struct drill_instance *x = instance_of(d, dead, items[i].instance);
                size_t len = strlen(names);

                if (items[i].state == FAILOVER_DONE || !x)
                        continue;
                snprintf(names + len, sizeof(names) - len, "%s%s", told++ ? ", " : "", x->name);
        }
        return str_printf("host %s: %zu of %zu instances would find no room (%s%s)", host_name(d, dead),
                          unplaced, n, names, unplaced > NAMED ? ", ..." : "");
}

/* Adds one host's line, and its loss where it could not be absorbed. */
static int add_host(struct imaged *im, const struct drill *d, const struct planner_host *h, json_t *reply,
                    struct err *err)
{
        _cleanup_(freep) struct failover_item *items = NULL;
        _cleanup_(freep) char *text = NULL;
        size_t n = 0, unplaced = 0;
        char buf[256];
        json_t *line;
        int r = drill_run(d, h->number, &items, &n, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                unplaced += items[i].state != FAILOVER_DONE;
        line = json_pack("{s:i,s:s,s:b,s:b,s:I,s:I}", "number", (int)h->number, "name", h->name, "armed",
                         disarmed(im, d, h->number, buf, sizeof(buf)) == NULL, "fits", unplaced == 0,
                         "instances", (json_int_t)n, "unplaced", (json_int_t)unplaced);
        if (unplaced)
                text = loss_text(d, h->number, items, n, unplaced);
        if (text)
                json_array_append_new(json_object_get(reply, "losses"), json_string(text));
        return json_array_append_new(json_object_get(reply, "hosts"), line) < 0
                   ? err_set(err, -ENOMEM, "out of memory")
                   : 0;
}

int host_on_drill_all(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *reply = json_pack("{s:[],s:[]}", "hosts", "losses");
        struct drill d = {0};
        int r = drill_look(im, http_query(req, "after"), &d, err);

        for (size_t i = 0; r == 0 && i < d.n_hosts; i++)
                if (d.hosts[i].alive) /* what a dead one had is on the way elsewhere */
                        r = add_host(im, &d, &d.hosts[i], reply, err);
        drill_done(&d);
        if (r < 0)
                return r;
        json_object_set_new(reply, "holds",
                            json_boolean(json_array_size(json_object_get(reply, "losses")) == 0));
        return http_reply_json(req, 200, reply);
}

/* --- maintenance --- */

static int change_maintenance(json_t *record, void *arg, struct err *err)
{
        const bool *on = arg;

        if (json_get_bool(record, "maintenance", false) == *on)
                return 1;
        return json_object_set_new(record, "maintenance", json_boolean(*on));
}

int host_on_maintenance(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *body = NULL, *record = NULL;
        const char *host = http_param(req, "id");
        _cleanup_(freep) char *text = NULL;
        char id[12];
        unsigned number;
        bool on;
        int r = http_body_json(req, &body, err);

        if (r == 0 && !json_is_boolean(json_object_get(body, "on")))
                r = err_set(err, -EINVAL, "on is missing, or neither true nor false");
        if (r == 0)
                r = hosts_number(im->hosts, host, &number, err);
        if (r < 0)
                return r;
        on = json_get_bool(body, "on", false);
        snprintf(id, sizeof(id), "%u", number);
        r = records_change(im->store, RECORD_HOST, id, change_maintenance, &on, &record, err);
        if (r < 0)
                return r;
        hosts_changed(im->hosts, number, record);
        text = str_printf("host %s: failover is %s", json_get_str(record, "name", id),
                          on ? "disarmed for it (maintenance)" : "armed for it again");
        log_info("%s", text ? text : "");
        event_post(im->events,
                   &(struct event){.kind = on ? "maintenance-on" : "maintenance-off", .text = text});
        return http_reply_json(req, 200, record);
}
