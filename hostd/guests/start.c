/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/dhcp.h"
#include "hostd/events.h"
#include "hostd/guests/guest.h"
#include "hostd/plug/plug.h"
#include "hostd/self.h"

/* On a directory QEMU opens files, as the user that libvirt runs it as. On nfs they are the start's own, on
 * rbd nobody's. */
static int give_to_qemu(const struct context *ctx, const struct attach *a, struct err *err)
{
        const struct virt_host *h = &ctx->capacity;

        if (a->kind != ATTACH_FILE || chown(a->path, h->qemu_uid, h->qemu_gid) == 0)
                return 0;
        return err_set(err, -errno, "%s: cannot be given to QEMU's user %" PRIu32 ": %s", a->path,
                       h->qemu_uid, strerror(errno));
}

int guest_xml(struct context *ctx, const struct instance *i, const struct lease *lease,
              const struct domain_lease *key, const char *bridge, char **ret, struct err *err)
{
        struct disk_spec specs[INSTANCE_DISKS];
        struct attach attaches[INSTANCE_DISKS];
        struct domain_disk disks[INSTANCE_DISKS + 1] = {0};
        _cleanup_(freep) char *lock_path = NULL;
        size_t n = instance_disks(i, specs);
        char tap[TAP_NAME_LEN];
        int r;

        plug_tap(i->id, tap);
        r = lease_attach(ctx->store, i->id, lease, &key->start, specs, n, attaches, err);
        if (r == 0)
                r = lease_lock_path(ctx->store, i->id, &lock_path, err);
        for (size_t k = 0; r == 0 && k < n; k++) {
                disks[k].attach = attaches[k];
                snprintf(disks[k].name, sizeof(disks[k].name), "%s", specs[k].name);
                r = give_to_qemu(ctx, &attaches[k], err);
        }
        if (r == 0 && i->iso) {
                r = volume_attach(ctx->store, i->iso, &disks[n].attach, err);
                snprintf(disks[n++].name, sizeof(disks[0].name), "install");
        }
        if (r < 0)
                return r;
        const struct domain_spec spec = {.instance = i->id,
                                         .name = i->name,
                                         .cpus = i->cpus,
                                         .memory = i->memory,
                                         .kvm = ctx->kvm,
                                         .bridge = bridge,
                                         .tap = tap,
                                         .mac = i->mac,
                                         .disks = disks,
                                         .n_disks = n,
                                         .boot_cdrom_second = i->iso != NULL,
                                         .emulator = ctx->config->emulator,
                                         .rbd_user = ctx->config->ceph_user,
                                         .rbd_secret = ctx->rbd_secret,
                                         .lock_path = lock_path,
                                         .lease = *key};
        return domain_xml(&spec, ret, err);
}

int guest_claim(struct guest *g, const struct guest_look *l, struct lease *ret, struct err *err)
{
        return lease_claim(g->ctx->store, g->id, &l->lease, g->ctx->number, false, ret, err);
}

/*
 * libvirt's answer to a start is lost. Its daemon may be busy with it yet, or be on its way down: what it
 * says when it is here again counts. Where it does not come, the caller ends whatever has begun.
 */
#define START_ANSWER_MS 8000
#define START_LOOK_MS 100

static int start_await(struct guest *g, const struct start *start, int r)
{
        int64_t until = clock_ms() + START_ANSWER_MS;

        while (clock_ms() < until && !g->ctx->self->quit) {
                struct virt_domain d;
                int found = -ENOTCONN;

                if (g->ctx->self->virt_connected)
                        found = virt_find(g->ctx->virt, g->id, &d, NULL);
                if (found == 0 && d.running && streq(d.lease.start.id, start->id))
                        return 0;
                if (found == -ENOENT)
                        return r;
                poll(NULL, 0, START_LOOK_MS);
        }
        return r;
}

/* fence, QEMU; the gate says yes in between, on its own thread. */
static int start_claimed(struct guest *g, const struct guest_look *l, const struct lease *mine,
                         struct start_phases *p, struct err *err)
{
        struct context *ctx = g->ctx;
        const struct instance *i = &l->instance;
        struct domain_lease key = {.epoch = mine->epoch};
        const uint32_t taken[] = {i->start.uid, i->entry_start.uid};
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(i, disks);
        _cleanup_(freep) char *xml = NULL;
        int64_t t = clock_ms();
        int r;

        snprintf(key.instance, sizeof(key.instance), "%s", g->id);
        do {
                start_init(&key.start, g->id, mine->epoch, NULL, taken, ARRAY_SIZE(taken));
                r = lease_fence(ctx->store, g->id, mine, &key.start, disks, n, err);
        } while (r == -EEXIST);
        p->fence_ms = clock_ms() - t;
        clock_stamp(p->fence_since);
        if (r == 0)
                r = guest_xml(ctx, i, mine, &key, ctx->config->bridge, &xml, err);
        if (r < 0)
                return r;
        /* What a late migration brought here during the claim, should libvirtd have forgotten it by now. */
        r = guest_kill_processes(g, err);
        if (r < 0)
                return r;
        dhcp_add(ctx, g->id, i->name, i->mac, i->address);
        p->begun_ms = clock_ms();
        pthread_mutex_lock(&g->lock);
        g->starting = key.start;
        g->starting_epoch = mine->epoch;
        g->phases = *p;
        pthread_mutex_unlock(&g->lock);
        r = guest_launch(g, xml, err);
        if (virt_unanswered(r))
                r = start_await(g, &key.start, r);
        pthread_mutex_lock(&g->lock);
        g->starting = (struct start){0};
        pthread_mutex_unlock(&g->lock);
        if (r < 0) {
                struct err ignored = {0};

                if (r == -ETIME) /* libvirt would not answer this either */
                        guest_kill_processes(g, &ignored);
                else
                        guest_kill(g, &ignored);
                start_forget(ctx->store, g->id, &key.start);
        }
        return r;
}

void guest_start_failed(struct guest *g, const struct guest_look *l, bool news, const struct err *why)
{
        const struct guest_try *t = &g->tried;
        const struct guest_status s = {
            .state = "failed", .error = err_text(why), .tries = g->backoff.failures, .next = g->retry_at};
        struct err e = {0};

        g->crashed = false; /* what it failed of is the newer reason */
        if (guest_record_status(g->ctx, g->id, &s, &t->at, &e) < 0)
                log_debug("instance %s: its record does not say why: %s", g->id, err_text(&e));
        if (t->claimed || news)
                event_add(g->ctx, t->refused ? "start-refused" : "start-failed", g->id, l->instance.name,
                          "%s", err_text(why));
        /* Another host may have the room that this one lacks: the start goes on to the next at once. */
        if (t->claimed ? guest_chain(l) != NULL : t->refused && !guest_fixed(l))
                guest_hand_on(g, l, &t->at, why);
}

int guest_start(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct context *ctx = g->ctx;
        const struct instance *i = &l->instance;
        struct start_phases p = {.failover = guest_failover(l) != NULL};
        int64_t t = clock_ms();
        struct lease mine;
        int r;

        g->tried = (struct guest_try){.at = l->lease};
        r = guest_kill(g, err);
        if (r < 0)
                return r;
        r = guest_admit(g, i, err);
        g->tried.refused = r == -ENOSPC || r == -EEXIST;
        if (r < 0)
                return r;
        r = guest_claim(g, l, &mine, err);
        if (r == -ESTALE) /* another host won: nothing to do here, and the next look says so */
                return 0;
        if (r < 0)
                return r;
        g->tried = (struct guest_try){.claimed = true, .at = mine};
        p.claim_ms = clock_ms() - t;
        start_forget(ctx->store, g->id, &i->start);
        r = start_claimed(g, l, &mine, &p, err);
        if (r < 0)
                return r;
        backoff_started(&g->backoff, clock_ms());
        g->ran = true;
        plug_announce(ctx, g->id, i->mac, i->address);
        g->crashed = false;
        if (guest_failover(l))
                event_add(ctx, "failover", g->id, i->name,
                          "runs here now: claim %lld ms, fence %lld ms, start %lld ms",
                          (long long)p.claim_ms, (long long)p.fence_ms,
                          (long long)(g->backoff.started_ms - p.begun_ms));
        else
                event_add(ctx, "instance-started", g->id, i->name, "runs at epoch %llu",
                          (unsigned long long)mine.epoch);
        return 0;
}
