/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "imaged/events.h"
#include "imaged/hosts.h"
#include "imaged/index.h"
#include "imaged/instance.h"
#include "imaged/network.h"
#include "imaged/place.h"
#include "imaged/records.h"

/*
 * What callers want of instances goes into their records; hosts make it so. Whatever concerns a name's owner
 * is bound to the name's epoch: a request that was overtaken by a move is void.
 */

static const char *state_of(const json_t *record)
{
        return json_get_str(json_object_get(record, "status"), "state", "unknown");
}

/* "paused: storage full" */
static const char *state_text(const json_t *record, char *buf, size_t n)
{
        const char *reason = json_get_str(json_object_get(record, "status"), "reason", "");

        snprintf(buf, n, "%s%s%s", state_of(record), reason[0] ? ": " : "", reason);
        return buf;
}

void instance_disk_specs(const json_t *record, struct disk_spec ret[INSTANCE_DISKS])
{
        ret[0] = (struct disk_spec){.name = "disk0",
                                    .image = json_get_str(record, "image", NULL),
                                    .size = (uint64_t)json_get_int(record, "disk", 0)};
        ret[1] = (struct disk_spec){.name = "seed"};
}

int instance_find(struct imaged *im, const char *id_or_name, json_t **ret, struct err *err)
{
        char id[UUID_LEN + 1];
        int r = 0;

        snprintf(id, sizeof(id), "%s", id_or_name);
        if (!uuid_valid(id_or_name)) {
                r = strlen(id_or_name) > 63 ||
                            strspn(id_or_name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(id_or_name)
                        ? -ENOENT
                        : name_find(im, id_or_name, id, err);
        }
        if (r == 0)
                r = records_load(im->store, RECORD_INSTANCE, id, ret, NULL, err);
        return r == -ENOENT ? err_set(err, -ENOENT, "no instance %s", id_or_name) : r;
}

int instance_of(struct http_request *req, struct imaged *im, json_t **ret, struct err *err)
{
        int r = instance_find(im, http_param(req, "id"), ret, err);

        if (r < 0)
                return r;
        if (json_object_get(*ret, "creating"))
                return err_set(err, -EBUSY, "instance %s is being made", http_param(req, "id"));
        if (streq(json_get_str(*ret, "wanted", NULL), "deleted"))
                return err_set(err, -EBUSY, "instance %s is being deleted", http_param(req, "id"));
        return 0;
}

int instance_lease(struct imaged *im, const json_t *record, struct lease *ret, struct err *err)
{
        int r = lease_find(im->store, json_get_str(record, "id", ""), ret, err);

        if (r == -ENOENT)
                return err_set(err, -EIO, "instance %s has no disks", json_get_str(record, "name", ""));
        return r < 0 ? records_wrap(err, r, "instance", json_get_str(record, "name", "")) : 0;
}

/* Ends a request: the host is told, people are told, the caller gets the record. */
static int accepted(struct http_request *req, struct imaged *im, const json_t *record, const char *kind,
                    unsigned host)
{
        const char *id = json_get_str(record, "id", "");

        hosts_nudge(im->hosts, host, id);
        event_post(im->events, &(struct event){.kind = kind,
                                               .instance = id,
                                               .name = json_get_str(record, "name", NULL),
                                               .host = host});
        return http_reply_json(req, 202, record);
}

/* --- list, show --- */

/* The records' texts one after the other: at 100,000 of them, parsing and printing would take longer than
 * reading. */
struct list {
        char *text;
        size_t len, room;
};

static int list_add(struct list *l, const char *text)
{
        size_t n = strlen(text);

        if (l->len + n + 2 > l->room) {
                size_t room = MAX_OF(l->room * 2, l->len + n + 4096);
                char *bigger = realloc(l->text, room);

                if (!bigger)
                        return -ENOMEM;
                l->text = bigger;
                l->room = room;
        }
        memcpy(l->text + l->len, text, n + 1);
        l->len += n;
        return 0;
}

static int list_one(void *arg, const char *id, uint64_t version, const char *text)
{
        struct list *l = arg;
        int r = l->text[l->len - 1] == '[' ? 0 : list_add(l, ",");

        return r < 0 ? r : list_add(l, text);
}

static int list_named(struct imaged *im, const char *name, struct http_request *req, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL, *reply = NULL;
        int r = instance_find(im, name, &record, err);

        if (r < 0 && r != -ENOENT)
                return r;
        reply = json_pack("{s:[]}", "instances");
        if (record && streq(json_get_str(record, "name", NULL), name))
                json_array_append(json_object_get(reply, "instances"), record);
        return http_reply_json(req, 200, reply);
}

int instance_on_list(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *name = http_query(req, "name");
        struct list l = {0};
        int r;

        if (name)
                return list_named(im, name, req, err);
        r = list_add(&l, "{\"instances\":[");
        if (r == 0)
                r = record_list(im->store, RECORD_INSTANCE, list_one, &l, err);
        if (r == 0)
                r = list_add(&l, "]}");
        if (r == 0)
                r = http_reply_text(req, 200, "application/json", l.text);
        free(l.text);
        return records_code(r);
}

int instance_on_show(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r = instance_find(userdata, http_param(req, "id"), &record, err);

        return r < 0 ? r : http_reply_json(req, 200, record);
}

/* --- start, stop, restart --- */

struct change {
        struct lease lease;
        unsigned host; /* placement; 0: none */
        bool force;
        json_int_t serial; /* move: out */
};

static json_t *placement_json(const struct change *c)
{
        return json_pack("{s:i,s:I}", "host", (int)c->host, "epoch", (json_int_t)c->lease.epoch);
}

static int change_start(json_t *record, void *arg, struct err *err)
{
        struct change *c = arg;

        if (streq(json_get_str(record, "wanted", NULL), "deleted"))
                return err_set(err, -EBUSY, "instance %s is being deleted",
                               json_get_str(record, "name", ""));
        json_object_set_new(record, "wanted", json_string("running"));
        json_object_set_new(record, "stop_force", json_false());
        if (c->host)
                json_object_set_new(record, "placement", placement_json(c));
        return 0;
}

static bool runs_nowhere(const json_t *record)
{
        const char *state = state_of(record);

        return streq(state, "stopped") || streq(state, "pending") || streq(state, "failed");
}

static int place_for(struct imaged *im, const json_t *record, unsigned preferred, unsigned *ret,
                     struct err *err)
{
        struct placing p;

        placing_from(record, &p);
        p.preferred = preferred;
        return place_pick(im, &p, ret, err);
}

int instance_on_start(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *record = NULL, *now = NULL;
        struct change c = {0};
        int r;

        r = instance_of(req, im, &record, err);
        if (r < 0)
                return r;
        if (streq(json_get_str(record, "wanted", NULL), "running") && !runs_nowhere(record))
                return http_reply_json(req, 202, record);
        r = instance_lease(im, record, &c.lease, err);
        /* Where it still ends, its host starts it again; else where it was last, if that has room. */
        if (r == 0 && runs_nowhere(record))
                r = place_for(im, record, c.lease.host ? c.lease.host : index_host(record), &c.host, err);
        else
                c.host = c.lease.host;
        if (r == 0)
                r = records_change(im->store, RECORD_INSTANCE, json_get_str(record, "id", ""), change_start,
                                   &c, &now, err);
        return r < 0 ? r : accepted(req, im, now, "instance-start", c.host);
}

static int change_stop(json_t *record, void *arg, struct err *err)
{
        struct change *c = arg;
        char at[CLOCK_STAMP_LEN + 1];

        if (streq(json_get_str(record, "wanted", NULL), "deleted"))
                return err_set(err, -EBUSY, "instance %s is being deleted",
                               json_get_str(record, "name", ""));
        json_object_set_new(record, "wanted", json_string("stopped"));
        json_object_set_new(record, "stop_force", json_boolean(c->force));
        if (c->lease.host == 0 &&
            streq(state_of(record), "pending")) { /* it never ran: no host writes its status */
                json_object_set_new(json_object_get(record, "status"), "state", json_string("stopped"));
                json_object_set_new(json_object_get(record, "status"), "since",
                                    json_string(clock_stamp(at)));
        }
        return 0;
}

static int force_of(struct http_request *req, bool *ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body = NULL;
        const json_t *force;
        int r = http_body_json(req, &body, err);

        if (r < 0)
                return r;
        force = json_object_get(body, "force");
        if (force && !json_is_boolean(force))
                return err_set(err, -EINVAL, "force is neither true nor false");
        *ret = json_is_true(force);
        return 0;
}

int instance_on_stop(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *record = NULL, *now = NULL;
        struct change c = {0};
        int r;

        r = force_of(req, &c.force, err);
        if (r == 0)
                r = instance_of(req, im, &record, err);
        if (r == 0)
                r = instance_lease(im, record, &c.lease, err);
        if (r == 0)
                r = records_change(im->store, RECORD_INSTANCE, json_get_str(record, "id", ""), change_stop,
                                   &c, &now, err);
        return r < 0 ? r : accepted(req, im, now, "instance-stop", c.lease.host);
}

static int change_restart(json_t *record, void *arg, struct err *err)
{
        struct change *c = arg;

        if (!streq(json_get_str(record, "wanted", NULL), "running"))
                return err_set(err, -EBUSY, "instance %s is wanted %s; start it",
                               json_get_str(record, "name", ""), json_get_str(record, "wanted", "unknown"));
        json_object_set_new(record, "restart", json_integer(json_get_int(record, "restart", 0) + 1));
        json_object_set_new(record, "stop_force", json_boolean(c->force));
        return 0;
}

int instance_on_restart(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *record = NULL, *now = NULL;
        struct change c = {0};
        int r;

        r = force_of(req, &c.force, err);
        if (r == 0)
                r = instance_of(req, im, &record, err);
        if (r == 0)
                r = records_change(im->store, RECORD_INSTANCE, json_get_str(record, "id", ""),
                                   change_restart, &c, &now, err);
        return r < 0 ? r : accepted(req, im, now, "instance-restart", index_host(now));
}

/* --- migrate --- */

static int change_migrate(json_t *record, void *arg, struct err *err)
{
        struct change *c = arg;
        json_int_t asked = json_get_int(json_object_get(record, "move"), "serial", 0);
        json_int_t done = json_get_int(json_path(record, "status.move"), "serial", 0);
        char state[256];

        if (!streq(json_get_str(record, "wanted", NULL), "running") || !streq(state_of(record), "running"))
                return err_set(err, -EBUSY, "instance %s is %s, and wanted %s; only a running one migrates",
                               json_get_str(record, "name", ""), state_text(record, state, sizeof(state)),
                               json_get_str(record, "wanted", "unknown"));
        c->serial = MAX_OF(asked, done) + 1;
        json_object_set_new(record, "move",
                            json_pack("{s:I,s:i,s:I}", "serial", c->serial, "to", (int)c->host, "epoch",
                                      (json_int_t)c->lease.epoch));
        return 0;
}

/* ret: the host that the caller asks for; 0: any. */
static int target_of(struct http_request *req, struct imaged *im, unsigned *ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body = NULL;
        const json_t *host;
        char number[24];
        int r = http_body_json(req, &body, err);

        if (r < 0)
                return r;
        host = json_object_get(body, "host");
        if (!host || json_is_null(host))
                return 0;
        if (!json_is_integer(host) && !json_is_string(host))
                return err_set(err, -EINVAL, "host is neither a number nor a name");
        snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(host));
        r = hosts_number(im->hosts, json_is_string(host) ? json_string_value(host) : number, ret, err);
        return r == -ENOENT ? err_wrap(err, -EINVAL, "host") : r;
}

int instance_on_migrate(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *record = NULL, *reply = NULL;
        struct change c = {0};
        struct placing p;
        char state[256];
        unsigned to = 0;
        int r;

        r = target_of(req, im, &to, err);
        if (r == 0)
                r = instance_of(req, im, &record, err);
        if (r == 0 && !streq(state_of(record), "running"))
                return err_set(err, -EBUSY, "instance %s is %s; only a running one migrates",
                               http_param(req, "id"), state_text(record, state, sizeof(state)));
        if (r == 0)
                r = instance_lease(im, record, &c.lease, err);
        if (r < 0)
                return r;
        if (to && to == c.lease.host)
                return err_set(err, -EINVAL, "instance %s is on host %u already", http_param(req, "id"), to);
        placing_from(record, &p);
        p.only = to;
        p.not_on = c.lease.host;
        r = place_pick(im, &p, &c.host, err);
        if (r == 0)
                r = records_change(im->store, RECORD_INSTANCE, p.id, change_migrate, &c, NULL, err);
        if (r < 0)
                return r;
        hosts_nudge(im->hosts, c.lease.host, p.id);
        event_post(im->events, &(struct event){.kind = "instance-migrate",
                                               .instance = p.id,
                                               .name = json_get_str(record, "name", NULL),
                                               .host = c.host});
        reply = json_pack("{s:I,s:i,s:i}", "serial", c.serial, "to", (int)c.host, "from", (int)c.lease.host);
        return http_reply_json(req, 202, reply);
}
