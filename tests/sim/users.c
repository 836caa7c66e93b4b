/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/http-client.h"
#include "common/json.h"
#include "hostd/record.h"
#include "tests/sim/world.h"

/* What imaged writes into the records when people ask, and when it clears up. */

static void look(unsigned number, const char *instance)
{
        _cleanup_(json_decrefpp) json_t *body = json_pack("{s:s}", "instance", instance);
        struct http_client *c = NULL;
        char base[40];

        if (number == 0 || number > W.n_hosts)
                return;
        snprintf(base, sizeof(base), "http://%s", W.hosts[number - 1].listen);
        if (http_client_new(base, "", 1000, &c, NULL) < 0)
                return;
        http_call(c, "POST", "/v1/look", body, NULL, NULL, NULL);
        http_client_free(c);
}

static bool alive(unsigned number)
{
        return number > 0 && number <= W.n_hosts && W.hosts[number - 1].context;
}

/* The planner would take a living one with room, `preferred` if it is one; what imaged knows of that may be
 * old. */
static unsigned pick(unsigned preferred, unsigned not_on)
{
        if (alive(preferred) || (preferred && rnd(20) == 0))
                return preferred;
        for (int tries = 0; tries < 20; tries++) {
                unsigned k = (unsigned)rnd(W.n_hosts);

                if (k + 1 != not_on && (W.hosts[k].context || rnd(10) == 0))
                        return k + 1;
        }
        return 0;
}

struct wish {
        struct lease lease;
        unsigned host;
        bool force, nowhere;
        int64_t restart; /* out */
};

static bool is(const json_t *doc, const char *member, const char *value)
{
        return streq(json_get_str(doc, member, ""), value);
}

static bool runs_nowhere(const json_t *doc)
{
        const json_t *status = json_object_get(doc, "status");

        return is(status, "state", "stopped") || is(status, "state", "pending") ||
               is(status, "state", "failed");
}

static void place(json_t *doc, const struct wish *w)
{
        json_object_set_new(
            doc, "placement",
            json_pack("{s:i,s:I}", "host", (int)w->host, "epoch", (json_int_t)w->lease.epoch));
}

static int edit_start(json_t *doc, void *arg, struct err *err)
{
        const struct wish *w = arg;

        if (is(doc, "wanted", "deleted") || (is(doc, "wanted", "running") && !runs_nowhere(doc)))
                return 0;
        json_object_set_new(doc, "wanted", json_string("running"));
        json_object_set_new(doc, "stop_force", json_false());
        if (w->host)
                place(doc, w);
        return 1;
}

static int edit_stop(json_t *doc, void *arg, struct err *err)
{
        const struct wish *w = arg;

        if (is(doc, "wanted", "deleted"))
                return 0;
        json_object_set_new(doc, "wanted", json_string("stopped"));
        json_object_set_new(doc, "stop_force", json_boolean(w->force));
        if (w->lease.host == 0 && is(json_object_get(doc, "status"), "state", "pending"))
                json_object_set_new(json_object_get(doc, "status"), "state", json_string("stopped"));
        return 1;
}

static int edit_restart(json_t *doc, void *arg, struct err *err)
{
        struct wish *w = arg;

        w->restart = 0;
        if (!is(doc, "wanted", "running"))
                return 0;
        w->restart = json_get_int(doc, "restart", 0) + 1;
        json_object_set_new(doc, "restart", json_integer(w->restart));
        json_object_set_new(doc, "stop_force", json_boolean(w->force));
        return 1;
}

static int edit_migrate(json_t *doc, void *arg, struct err *err)
{
        const struct wish *w = arg;
        const json_t *status = json_object_get(doc, "status");
        int64_t asked = json_get_int(json_object_get(doc, "move"), "serial", 0);
        int64_t done = json_get_int(json_object_get(status, "move"), "serial", 0);

        if (!is(doc, "wanted", "running") || !is(status, "state", "running"))
                return 0;
        json_object_set_new(doc, "move",
                            json_pack("{s:I,s:i,s:I}", "serial", (json_int_t)MAX_OF(asked, done) + 1, "to",
                                      (int)w->host, "epoch", (json_int_t)w->lease.epoch));
        return 1;
}

static int edit_delete(json_t *doc, void *arg, struct err *err)
{
        if (is(doc, "wanted", "deleted"))
                return 0;
        json_object_set_new(doc, "wanted", json_string("deleted"));
        return 1;
}

static void one_wish(struct store *s, struct disk *d)
{
        struct wish w = {.force = rnd(3) == 0};
        const char *what = "delete";
        record_edit edit = edit_delete;
        uint64_t dice = rnd(40);
        struct instance i;
        int r;

        if (instance_load(s, d->id, &i, NULL) < 0)
                return;
        w.nowhere = runs_nowhere(i.doc);
        instance_done(&i);
        if (lease_find(s, d->id, &w.lease, NULL) < 0)
                return;
        if (dice < 18) {
                what = "migrate", edit = edit_migrate, w.host = pick(0, w.lease.host);
                if (!w.host)
                        return;
        } else if (dice < 28) {
                what = "start", edit = edit_start;
                w.host = w.nowhere ? pick(w.lease.host, 0) : w.lease.host;
        } else if (dice < 34) {
                what = "stop", edit = edit_stop;
                d->may_stop = true;
        } else if (dice < 39) {
                what = "restart", edit = edit_restart;
        } else {
                d->deleted = true;
        }
        W.stats.requests++;
        r = record_change(s, RECORD_INSTANCE, d->id, edit, &w, NULL);
        tell("%s: a user asks to %s%s (host %u, epoch %llu): %d", d->id, what, w.force ? " by force" : "",
             w.host, (unsigned long long)w.lease.epoch, r);
        if (r == 0 && w.restart > d->restarts)
                d->restarts = w.restart;
        if (rnd(4) > 0)
                look(edit == edit_start && w.host ? w.host : w.lease.host, d->id);
}

int instance_make(unsigned index, unsigned host)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;
        _cleanup_(freep) char *text = NULL;
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        char id[UUID_LEN + 1], name[16];
        int r;

        uuid_random(id);
        snprintf(name, sizeof(name), "vm%u", index);
        doc = json_pack("{s:s,s:s,s:i,s:I,s:I,s:i,s:s,s:{s:i,s:i},s:i,s:b,s:{s:s,s:s},s:{s:s,s:i,s:i,s:i}}",
                        "id", id, "name", name, "cpus", 1, "memory", (json_int_t)SIM_GUEST_MEMORY, "disk",
                        (json_int_t)1 << 20, "priority", (int)rnd(3), "wanted", "running", "placement",
                        "host", (int)host, "epoch", 0, "restart", 0, "stop_force", 0, "network", "mac",
                        "52:54:00:00:00:01", "address", "10.1.0.1", "status", "state", "pending", "host", 0,
                        "epoch", 0, "restart", 0);
        text = doc ? json_text(doc) : NULL;
        if (!text)
                return -ENOMEM;
        disk_new(id, name);
        world_hold();
        r = lease_create(W.store, id, &disk, 1, NULL);
        if (r == 0)
                r = record_put(W.store, RECORD_INSTANCE, id, 0, text, NULL, NULL);
        world_release();
        return r;
}

void users_run(void *arg)
{
        struct store *s = sim_store_open(&W.outside, 5000);

        while (!W.quiet) {
                co_sleep(rnd(6) == 0 ? rnd_between(0, 200) * SIM_MS : rnd_between(500, 9000) * SIM_MS);
                if (!W.quiet && W.n_disks)
                        one_wish(s, &W.disks[rnd(W.n_disks)]);
        }
        store_close(s);
}

/* --- imaged's collector --- */

static int edit_place(json_t *doc, void *arg, struct err *err)
{
        place(doc, arg);
        return 1;
}

static void remove_step(struct store *s, const struct disk *d, const struct instance *i)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        struct wish w = {0};
        int r = lease_find(s, d->id, &w.lease, NULL);

        if (r == 0 && w.lease.host == 0)
                r = lease_remove(s, d->id, &w.lease, &disk, 1, NULL);
        else if (r == 0 && alive(w.lease.host)) {
                look(w.lease.host, d->id);
                return;
        } else if (r == 0) {
                if (i->placement_epoch == w.lease.epoch && alive(i->placement_host))
                        return;
                w.host = pick(0, w.lease.host);
                if (w.host && record_change(s, RECORD_INSTANCE, d->id, edit_place, &w, NULL) == 0)
                        look(w.host, d->id);
                return;
        }
        if (r == 0 || r == -ENOENT)
                record_put(s, RECORD_INSTANCE, d->id, i->version, NULL, NULL, NULL);
}

void imaged_run(void *arg)
{
        struct store *s = sim_store_open(&W.outside, 5000);

        for (;;) {
                co_sleep(rnd_between(3, 8) * SIM_S);
                for (size_t k = 0; k < W.n_disks; k++) {
                        struct disk *d = &W.disks[k];
                        struct instance i;
                        struct wish w = {0};

                        if (instance_load(s, d->id, &i, NULL) < 0)
                                continue;
                        if (i.wanted == WANTED_DELETED) {
                                remove_step(s, d, &i);
                        } else if (i.wanted == WANTED_RUNNING && i.placement_host &&
                                   !alive(i.placement_host) &&
                                   (streq(i.state, "pending") || streq(i.state, "stopped") ||
                                    streq(i.state, "failed")) &&
                                   lease_find(s, d->id, &w.lease, NULL) == 0 &&
                                   w.lease.epoch == i.placement_epoch) {
                                w.host = pick(0, 0); /* it waits for a host that is gone */
                                if (w.host &&
                                    record_change(s, RECORD_INSTANCE, d->id, edit_place, &w, NULL) == 0)
                                        look(w.host, d->id);
                        }
                        instance_done(&i);
                }
        }
}
