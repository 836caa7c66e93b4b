/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/dhcp.h"
#include "hostd/events.h"
#include "hostd/guests/guest.h"
#include "hostd/peers.h"
#include "hostd/plug/plug.h"

/*
 * A live migration from here, OWNERSHIP.md's "Migration A → B" from A's side:
 *
 *   preflight   the destination says what is in the way, all at once
 *   entry       {attempt, source, destination, epoch} into the record, never removed
 *   grant       the storage lets the destination's QEMU open the disks
 *   look again  the name is still ours; then libvirt
 *   ...         the destination's gate commits (answer.c over there)
 *   after       the name says who has it, whatever libvirt returned
 */
struct move {
        unsigned to;
        char attempt[UUID_LEN + 1];
        struct start start; /* of the destination's QEMU */
        json_t *host;       /* the destination's record, owned */
        json_t *preflight;  /* its answer, owned */
};

static void move_done(struct move *mv)
{
        json_decref(mv->host);
        json_decref(mv->preflight);
}

static int move_preflight(struct guest *g, const struct guest_look *l, struct move *mv, struct err *err)
{
        const struct instance *i = &l->instance;
        struct http_client *c = NULL;
        json_t *ask, *problems, *p;
        char text[400] = "";
        size_t k;
        int r;

        r = peer_record(g->ctx, mv->to, &mv->host, err);
        if (r < 0)
                return r;
        r = http_client_new(json_get_str(mv->host, "api", ""), g->ctx->config->token, 5000, &c, err);
        if (r < 0)
                return r;
        ask = json_pack("{s:s,s:i,s:I,s:i,s:s}", "instance", g->id, "cpus", (int)i->cpus, "memory",
                        (json_int_t)i->memory, "source", (int)g->ctx->number, "accel",
                        g->ctx->kvm ? "kvm" : "tcg");
        r = http_call(c, "POST", "/v1/preflight", ask, &mv->preflight, NULL, err);
        json_decref(ask);
        http_client_free(c);
        if (r < 0)
                return err_wrap(err, r, "preflight on host %s", json_get_str(mv->host, "name", "?"));
        problems = json_object_get(mv->preflight, "problems");
        json_array_foreach (problems, k, p)
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", k ? "; " : "",
                         json_get_str(p, "message", "?"));
        if (json_array_size(problems) > 0)
                return err_set(err, -EBUSY, "host %s cannot take it: %s",
                               json_get_str(mv->host, "name", "?"), text);
        return 0;
}

/* The last look before libvirt is called, then the call. */
static int move_run(struct guest *g, const struct guest_look *l, struct move *mv, struct virt_progress *ret,
                    struct err *err)
{
        struct context *ctx = g->ctx;
        struct domain_lease key = {.epoch = l->lease.epoch, .start = mv->start};
        _cleanup_(freep) char *xml = NULL;
        struct virt_migration vm = {0};
        struct lease now;
        int r;

        plug_quiet(ctx, g->id); /* from the switchover on it would send the guest's frames to the old host */
        snprintf(key.instance, sizeof(key.instance), "%s", g->id);
        snprintf(key.attempt, sizeof(key.attempt), "%s", mv->attempt);
        r = guest_xml(ctx, &l->instance, &l->lease, &key,
                      json_get_str(mv->preflight, "bridge", ctx->config->bridge), &xml, err);
        if (r == 0)
                r = lease_find(ctx->store, g->id, &now, err);
        if (r == 0 && (now.epoch != l->lease.epoch || now.host != l->lease.host))
                r = err_set(err, -ESTALE, "the disk has moved on to epoch %llu of host %u",
                            (unsigned long long)now.epoch, now.host);
        if (r < 0)
                return r;
        vm.instance = g->id;
        vm.destination = json_get_str(mv->preflight, "peer_uri", "");
        vm.migrate_uri = json_get_str(mv->preflight, "migrate_uri", "");
        vm.xml = xml;
        return virt_migrate(ctx->virt, &vm, ret, err);
}

static int move_prepare(struct guest *g, const struct guest_look *l, struct move *mv, struct err *err)
{
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(&l->instance, disks);
        int r;

        if (l->view.qemu != QEMU_RUNNING)
                return err_set(err, -EBUSY, "the guest is paused: a paused guest is not migrated");
        r = move_preflight(g, l, mv, err);
        if (r < 0)
                return r;
        uuid_random(mv->attempt);
        start_init(&mv->start, g->id, l->lease.epoch, mv->attempt);
        r = guest_record_entry(g->ctx, &l->instance, &l->lease, mv->attempt, mv->to, &mv->start, err);
        if (r == 0)
                r = lease_grant(g->ctx->store, g->id, &l->lease, &mv->start, disks, n, err);
        return r;
}

/* The name says how it ended. Returns 1 when the destination has it, 0 when it is still ours. */
static int move_verdict(struct guest *g, const struct guest_look *l, const struct move *mv, struct err *err)
{
        struct lease now;
        int r;

        r = lease_find(g->ctx->store, g->id, &now, err);
        if (r < 0)
                return r;
        return now.host == mv->to && now.epoch > l->lease.epoch;
}

static void move_report(struct guest *g, const struct guest_look *l, const struct move *mv, int verdict,
                        int64_t total, const struct virt_progress *p, const struct err *why)
{
        const char *name = l->instance.name, *to = json_get_str(mv->host, "name", "?");
        struct move_outcome o = {.serial = l->instance.move_serial,
                                 .state = verdict > 0 ? "done" : "failed",
                                 .error = verdict > 0 ? NULL : err_text(why),
                                 .total_ms = total,
                                 .downtime_ms = (int64_t)p->downtime_ms};
        struct err e = {0};

        if (guest_record_move(g->ctx, g->id, &o, &e) < 0)
                log_warn("instance %s: outcome of its migration not recorded: %s", g->id, err_text(&e));
        if (verdict > 0)
                event_add(g->ctx, "instance-migrated", g->id, name,
                          "to host %s in %lld ms, downtime %lld ms, %llu bytes sent", to, (long long)total,
                          (long long)o.downtime_ms, (unsigned long long)p->transferred);
        else
                event_add(g->ctx, "migration-failed", g->id, name, "to host %s: %s", to, err_text(why));
}

int guest_migrate(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct move mv = {.to = l->view.move_to};
        struct virt_progress p = {0};
        struct err why = {0}, ignored = {0};
        int64_t t = clock_ms(), total;
        int r, verdict = 0;

        r = move_prepare(g, l, &mv, &why);
        if (r == 0)
                r = move_run(g, l, &mv, &p, &why);
        total = clock_ms() - t;
        if (mv.attempt[0]) {
                verdict = move_verdict(g, l, &mv, err);
                if (verdict < 0) {
                        move_done(&mv);
                        return verdict; /* unknown: the next look decides by the name */
                }
        }
        if (verdict > 0) {
                /* libvirt ends the source itself; what it leaves behind is ended by the next look */
                guest_kill(g, &ignored);
                dhcp_remove(g->ctx, g->id);
        }
        if (verdict == 0 && r == 0)
                err_set(&why, -EIO, "libvirt reports success, but the destination has not claimed the disk");
        move_report(g, l, &mv, verdict, total, &p, &why);
        if (verdict > 0) /* the user need not wait for that */
                start_forget(g->ctx->store, g->id, &l->instance.start);
        if (verdict == 0) {
                start_forget(g->ctx->store, g->id, &mv.start);
                if (mv.preflight) /* it prepared for a guest that does not come */
                        peer_look(g->ctx, mv.to, g->id, false, &ignored);
        }
        move_done(&mv);
        return 0; /* an entry at our epoch makes the next decision a RECLAIM */
}

int guest_reclaim(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct context *ctx = g->ctx;
        const struct start *start = &l->domain.lease.start;
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(&l->instance, disks);
        struct lease mine;
        int r;

        if (l->domain.job) { /* a hostd before this one was migrating it */
                r = virt_migrate_abort(ctx->virt, g->id, err);
                if (r < 0)
                        return r;
        }
        r = lease_claim(ctx->store, g->id, &l->lease, ctx->number, &mine, err);
        if (r == -ESTALE)
                return 0; /* the destination has committed: the next look ends our QEMU */
        if (r == 0)
                r = lease_fence(ctx->store, g->id, &mine, start, disks, n, err);
        if (r == 0)
                r = guest_record_start(ctx, &l->instance, start, &mine, false, NULL, err);
        if (r == 0)
                log_info("instance %s: runs on here at epoch %llu", g->id, (unsigned long long)mine.epoch);
        return r;
}

#define MOVE_TOLD_MS                                                                                        \
        5000 /* the source tells the outcome, with the times that only it knows, well before that */

bool guest_move_void(struct guest *g, const struct guest_look *l)
{
        const struct instance *i = &l->instance;
        bool arrived = i->move_to == g->ctx->number;
        struct move_outcome o = {.serial = i->move_serial,
                                 .state = arrived ? "done" : "failed",
                                 .error =
                                     arrived ? NULL : "the instance was started anew before it could move"};
        struct err e = {0};

        if (!l->record || l->lease.host != g->ctx->number || i->move_serial == i->move_serial_done ||
            i->move_epoch == l->lease.epoch) {
                g->void_ms = 0;
                return false;
        }
        if (!g->void_ms)
                g->void_ms = clock_ms();
        if (arrived && clock_ms() - g->void_ms < MOVE_TOLD_MS)
                return true;
        if (i->entry_source && i->entry_epoch == i->move_epoch && !arrived)
                o.error = "its source was interrupted before the switchover";
        if (guest_record_move(g->ctx, g->id, &o, &e) < 0) {
                log_warn("instance %s: outcome of its migration not recorded: %s", g->id, err_text(&e));
                return true;
        }
        g->void_ms = 0;
        return false;
}
