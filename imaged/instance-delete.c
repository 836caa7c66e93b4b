/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "imaged/collect.h"
#include "imaged/events.h"
#include "imaged/hosts.h"
#include "imaged/instance.h"
#include "imaged/network.h"
#include "imaged/place.h"
#include "imaged/records.h"

struct change {
        struct lease lease;
        unsigned host;
};

/* --- delete --- */

static int change_delete(json_t *record, void *arg, struct err *err)
{
        if (streq(json_get_str(record, "wanted", NULL), "deleted"))
                return 1;
        json_object_set_new(record, "wanted", json_string("deleted"));
        json_object_set_new(record, "stop_force", json_true());
        return 0;
}

static int change_placement(json_t *record, void *arg, struct err *err)
{
        const struct change *c = arg;

        json_object_set_new(
            record, "placement",
            json_pack("{s:i,s:I}", "host", (int)c->host, "epoch", (json_int_t)c->lease.epoch));
        return 0;
}

/* The hosts that have run it and are away now, but for the one that has ended and removed it. */
static json_t *may_live_on(struct imaged *im, const json_t *record)
{
        unsigned last = (unsigned)json_get_int(json_object_get(record, "start"), "host", 0);
        unsigned remover = (unsigned)json_get_int(json_object_get(record, "status"), "host", 0);
        const json_t *receipts = json_object_get(record, "receipts"), *receipt;
        json_t *hosts = json_array();
        size_t i;

        if (last && last != remover && network_unsettled(im, last))
                json_array_append_new(hosts, json_integer(last));
        json_array_foreach (receipts, i, receipt) {
                unsigned from = (unsigned)json_get_int(receipt, "from", 0);

                if (from != remover && from != last && network_unsettled(im, from))
                        json_array_append_new(hosts, json_integer(from));
        }
        return hosts;
}

/* The disks are gone: so are the address, the name and the record. */
static int forget(struct imaged *im, const json_t *record, struct err *err)
{
        const char *id = json_get_str(record, "id", ""), *name = json_get_str(record, "name", "");
        _cleanup_(json_decrefpp) json_t *now = NULL, *hosts = NULL;
        uint64_t version;
        int r;

        r = records_load(im->store, RECORD_INSTANCE, id, &now, &version, err);
        if (r == 0 && !streq(json_get_str(now, "wanted", NULL), "deleted"))
                return err_set(err, -ESTALE, "instance %s is wanted again", name);
        if (r == 0 || r == -ENOENT)
                r = network_retire(im, NETWORK_DEFAULT, id, hosts = may_live_on(im, now ? now : record),
                                   err);
        if (r == 0)
                r = name_release(im, name, id, err);
        if (r == 0 && now)
                r = records_save(im->store, RECORD_INSTANCE, id, version, NULL, NULL, err);
        return r;
}

int instance_delete_step(struct imaged *im, const json_t *record, struct err *err)
{
        const char *id = json_get_str(record, "id", "");
        const json_t *placement = json_object_get(record, "placement");
        unsigned placed = (unsigned)json_get_int(placement, "host", 0);
        struct disk_spec disks[INSTANCE_DISKS];
        struct change c = {0};
        int r;

        instance_disk_specs(record, disks);
        r = lease_find(im->store, id, &c.lease, err);
        if (r == 0 &&
            c.lease.host == 0) /* nobody's: a host that claims it at this moment wins or loses the rename */
                r = lease_remove(im->store, id, &c.lease, disks, INSTANCE_DISKS, err);
        else if (r == 0 && hosts_alive(im->hosts, c.lease.host)) {
                hosts_nudge(im->hosts, c.lease.host, id);
                return 0;
        } else if (r == 0) { /* its owner is silent: another host claims it, and removes it as its owner */
                if (placed && (uint64_t)json_get_int(placement, "epoch", 0) == c.lease.epoch &&
                    hosts_alive(im->hosts, placed))
                        return 0;
                r = place_pick(im, &(struct placing){.id = id, .not_on = c.lease.host}, &c.host, err);
                if (r == 0)
                        r = records_change(im->store, RECORD_INSTANCE, id, change_placement, &c, NULL, err);
                if (r == 0)
                        hosts_nudge(im->hosts, c.host, id);
                return r;
        }
        if (r == -ESTALE)
                return 0; /* somebody owns it since: later */
        if (r < 0 && r != -ENOENT)
                return err_wrap(err, records_code(r), "disks of %s", id);
        return forget(im, record, err);
}

int instance_on_delete(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *record = NULL, *now = NULL;
        struct err later = {0};
        int r;

        r = instance_find(im, http_param(req, "id"), &record, err);
        if (r == 0 && json_object_get(record, "creating"))
                r = err_set(err, -EBUSY, "instance %s is being made", http_param(req, "id"));
        if (r == 0)
                r = records_change(im->store, RECORD_INSTANCE, json_get_str(record, "id", ""), change_delete,
                                   NULL, &now, err);
        if (r < 0)
                return r;
        /* The wish is recorded; what cannot be done now the collector does. */
        instance_delete_step(im, now, &later);
        collector_watch(im->collector, json_get_str(record, "id", ""));
        event_post(im->events, &(struct event){.kind = "instance-deleted",
                                               .instance = json_get_str(record, "id", ""),
                                               .name = json_get_str(record, "name", NULL),
                                               .text = later.code ? err_text(&later) : NULL});
        return http_reply_json(req, 202, now);
}

/* --- another host for one that was never started --- */

static int change_replace(json_t *record, void *arg, struct err *err)
{
        if (!streq(json_get_str(record, "wanted", NULL), "running"))
                return 1;
        return change_placement(record, arg, err);
}

int instance_replace(struct imaged *im, const json_t *record, struct err *err)
{
        const json_t *placement = json_object_get(record, "placement");
        struct change c = {0};
        struct placing p;
        int r;

        r = instance_lease(im, record, &c.lease, err);
        if (r < 0 || (uint64_t)json_get_int(placement, "epoch", 0) != c.lease.epoch)
                return r; /* the name has moved on: its owner, or who takes over from it, sees to it */
        placing_from(record, &p);
        r = place_pick(im, &p, &c.host, err);
        if (r == 0)
                r = records_change(im->store, RECORD_INSTANCE, p.id, change_replace, &c, NULL, err);
        if (r == 0)
                hosts_nudge(im->hosts, c.host, p.id);
        return r;
}
