/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"
#include "hostd/guests/guest.h"
#include "hostd/self.h"

/* What one look at an instance finds: its record, its name on the storage, and its QEMU here. */

#define STALLED_MS 5000 /* a QEMU that stands so long has been left standing */

void guest_look_done(struct guest_look *l)
{
        instance_done(&l->instance);
}

/* What the QEMU here was last told it may run at. */
static uint64_t qemu_epoch(const struct instance *i, const struct domain_lease *l)
{
        return i->start.id[0] && streq(i->start.id, l->start.id) ? i->start_epoch : 0;
}

/* A QEMU of this instance that libvirtd has forgotten. libvirt knows a domain before its process is there,
 * so what it still does not know after the process was seen, it will never know. */
static int look_forgotten(struct guest *g, struct guest_look *l, struct err *err)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        size_t n = 0, i = 0;
        int r;

        r = virt_processes(&list, &n, err);
        if (r < 0)
                return r;
        while (i < n && !streq(list[i].lease.instance, g->id))
                i++;
        if (i == n)
                return -ENOENT;
        r = virt_find(g->ctx->virt, g->id, &l->domain, err);
        if (r == -ENOENT) /* it has no epoch that anybody could prove: decided on as one that must end */
                l->view.qemu = QEMU_RUNNING;
        return r;
}

/*
 * A source that libvirt wanted to run again while no hostd could say yes stays paused, and libvirt does not
 * ask again. Nothing else of ours stands for long: a start or an arrival runs as soon as it has its yes.
 */
static bool look_stalled(struct guest *g, const struct virt_domain *d)
{
        if (d->running || d->job || streq(d->reason, "ioerror") || streq(d->reason, "user")) {
                g->stalled_ms = 0;
                return false;
        }
        if (!g->stalled_ms)
                g->stalled_ms = clock_ms();
        return clock_ms() - g->stalled_ms >= STALLED_MS;
}

static int look_qemu(struct guest *g, struct guest_look *l, struct err *err)
{
        struct instance_view *v = &l->view;
        int r;

        r = virt_find(g->ctx->virt, g->id, &l->domain, err);
        if (r == -ENOENT)
                r = look_forgotten(g, l, err);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        v->qemu = l->domain.running ? QEMU_RUNNING : QEMU_PAUSED;
        if (l->record) {
                v->qemu_epoch = qemu_epoch(&l->instance, &l->domain.lease);
                v->qemu_of_entry =
                    l->domain.lease.attempt[0] && streq(l->domain.lease.attempt, l->instance.entry_attempt);
        }
        v->qemu_io_error |= look_stalled(g, &l->domain);
        /* An error that was reported while no hostd listened. */
        if (streq(l->domain.reason, "ioerror")) {
                pthread_mutex_lock(&g->lock);
                g->io_error = true;
                v->qemu_io_error = clock_ms() >= g->resume_ms;
                pthread_mutex_unlock(&g->lock);
        }
        return 0;
}

static void look_record(struct guest_look *l)
{
        const struct instance *i = &l->instance;
        struct instance_view *v = &l->view;

        v->record = true;
        v->wanted = i->wanted;
        v->placement_host = i->placement_host;
        v->placement_epoch = i->placement_epoch;
        v->restart = i->restart != i->restart_done;
        v->entry_source = i->entry_source;
        v->entry_destination = i->entry_destination;
        v->entry_epoch = i->entry_epoch;
        if (i->move_serial != i->move_serial_done) {
                v->move_to = i->move_to;
                v->move_epoch = i->move_epoch;
        }
}

static bool look_settled(const struct guest_look *l)
{
        const struct instance *i = &l->instance;
        const char *state = l->view.qemu == QEMU_NONE ? "stopped" : "running";

        return streq(i->state, state) && i->state_host == l->lease.host && i->state_epoch == l->lease.epoch;
}

/* Rule 5: a QEMU that was let run before, by whichever hostd, may be let go on after an I/O error. */
static void look_adopt(struct guest *g, const struct guest_look *l)
{
        const struct instance_view *v = &l->view;
        /* A source that stands after its switchover: it has run, or it would have no entry at this epoch. */
        bool source = v->entry_source == v->me && v->entry_epoch == v->epoch;

        if (v->qemu == QEMU_NONE || v->host != v->me || v->qemu_epoch != v->epoch)
                return;
        pthread_mutex_lock(&g->lock);
        if (l->domain.running || source || v->qemu_io_error || streq(l->domain.reason, "ioerror"))
                g->known_pid = l->domain.pid;
        pthread_mutex_unlock(&g->lock);
}

int guest_look(struct guest *g, struct guest_look *ret, struct err *err)
{
        struct guest_look l = {
            .view = {.me = g->ctx->number, .now_ms = clock_ms(), .retry_ms = g->retry_ms}};
        int r;

        if (!g->ctx->self->virt_connected)
                return err_set(err, -ENOTCONN, "instance %s: no connection to libvirt: its guest is unknown",
                               g->id);
        l.view.trusted = self_trusted(g->ctx);
        l.view.leaving = g->ctx->self->leaving;
        pthread_mutex_lock(&g->lock);
        l.view.leave = g->leave;
        l.view.guest_powered_off = g->powered_off;
        l.view.qemu_fenced = g->fenced;
        l.view.qemu_io_error = g->io_error && clock_ms() >= g->resume_ms;
        pthread_mutex_unlock(&g->lock);
        /* The QEMU first, then the name: a name that moves on in between makes the QEMU look too old, which
         * is safe. */
        r = instance_load(g->ctx->store, g->id, &l.instance, err);
        if (r < 0 && r != -ENOENT)
                return r;
        l.record = r == 0;
        r = look_qemu(g, &l, err);
        if (r == 0 && l.record) {
                look_record(&l);
                r = lease_find(g->ctx->store, g->id, &l.lease, err);
                if (r ==
                    -ENOENT) { /* disks not made yet, or removed already: nobody's, and nothing to start */
                        l.lease = (struct lease){0};
                        l.view.placement_epoch = UINT64_MAX;
                        r = 0;
                }
        }
        if (r < 0) {
                guest_look_done(&l);
                return r;
        }
        l.view.epoch = l.lease.epoch;
        l.view.host = l.lease.host;
        l.view.settled = look_settled(&l);
        look_adopt(g, &l);
        *ret = l;
        return 0;
}
