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

static const struct drill_instance *instance_of(const struct drill *d, const char *id)
{
        for (size_t i = 0; i < d->n_instances; i++)
                if (streq(d->instances[i].id, id))
                        return &d->instances[i];
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

static json_t *item_json(const struct drill *d, const struct failover_item *item)
{
        const struct drill_instance *i = instance_of(d, item->instance);
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

/* One host's drill as the API tells it; ret_unplaced: how many found no room. */
static int drill_json(struct imaged *im, const struct drill *d, unsigned dead, json_t **ret,
                      size_t *ret_unplaced, struct err *err)
{
        _cleanup_(freep) struct failover_item *items = NULL;
        json_t *list = json_array();
        const char *why;
        char buf[256];
        size_t n = 0;
        int r = drill_run(d, dead, &items, &n, err);

        *ret_unplaced = 0;
        for (size_t i = 0; r == 0 && i < n; i++) {
                *ret_unplaced += items[i].state != FAILOVER_DONE;
                if (json_array_append_new(list, item_json(d, &items[i])) < 0)
                        r = err_set(err, -ENOMEM, "out of memory");
        }
        if (r < 0) {
                json_decref(list);
                return r;
        }
        why = disarmed(im, d, dead, buf, sizeof(buf));
        *ret =
            json_pack("{s:i,s:s?,s:b,s:s?,s:b,s:o}", "number", (int)dead, "name", host_name(d, dead),
                      "armed", why == NULL, "disarmed", why, "fits", *ret_unplaced == 0, "instances", list);
        return *ret ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int host_on_drill(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        struct drill d = {0};
        size_t unplaced;
        unsigned dead;
        int r = hosts_number(im->hosts, http_param(req, "id"), &dead, err);

        if (r == 0)
                r = drill_look(im, &d, err);
        if (r == 0)
                r = drill_json(im, &d, dead, &reply, &unplaced, err);
        drill_done(&d);
        return r < 0 ? r : http_reply_json(req, 200, reply);
}

/* "host h1: 2 of 3 instances would find no room (db1, web3)"; NULL: they all would. */
static char *loss_text(const json_t *drill, size_t unplaced)
{
        const json_t *instances = json_object_get(drill, "instances"), *i;
        char names[160] = "";
        size_t at, told = 0;

        if (unplaced == 0)
                return NULL;
        json_array_foreach (instances, at, i) {
                size_t len = strlen(names);

                if (!json_get_str(i, "reason", NULL) || told++ >= 4)
                        continue;
                snprintf(names + len, sizeof(names) - len, "%s%s", len ? ", " : "",
                         json_get_str(i, "name", "?"));
        }
        return str_printf("host %s: %zu of %zu instances would find no room (%s%s)",
                          json_get_str(drill, "name", "?"), unplaced, json_array_size(instances), names,
                          told > 4 ? ", ..." : "");
}

int host_on_drill_all(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        json_t *hosts = json_array(), *losses = json_array();
        struct drill d = {0};
        int r = drill_look(im, &d, err);

        reply = json_pack("{s:o,s:o}", "hosts", hosts, "losses", losses);
        for (size_t i = 0; r == 0 && i < d.n_hosts; i++) {
                _cleanup_(json_decrefpp) json_t *one = NULL;
                _cleanup_(freep) char *text = NULL;
                size_t unplaced = 0;

                if (!d.hosts[i].alive) /* what it had is on the way elsewhere */
                        continue;
                r = drill_json(im, &d, d.hosts[i].number, &one, &unplaced, err);
                if (r < 0)
                        break;
                text = loss_text(one, unplaced);
                if (text)
                        json_array_append_new(losses, json_string(text));
                json_array_append_new(
                    hosts, json_pack("{s:i,s:O,s:O,s:b,s:I,s:I}", "number", (int)d.hosts[i].number, "name",
                                     json_object_get(one, "name"), "armed", json_object_get(one, "armed"),
                                     "fits", unplaced == 0, "instances",
                                     (json_int_t)json_array_size(json_object_get(one, "instances")),
                                     "unplaced", (json_int_t)unplaced));
        }
        drill_done(&d);
        if (r < 0)
                return r;
        json_object_set_new(reply, "holds", json_boolean(json_array_size(losses) == 0));
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
