/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/guests/guest.h"
#include "hostd/room.h"
#include "hostd/self.h"
#include "migrate/isolation.h"

/* What one look at an instance finds: its record, its name on the storage, and its QEMU here. */

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

        r = virt_processes(g->ctx->virt, &list, &n, err);
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

/* Where no process is, no guest is: nothing starts one while libvirt does not answer, and what it starts
 * later the gate refuses. One that is there is unknown. */
static int look_without_libvirt(struct guest *g, struct err *err)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        size_t n = 0;
        int r = virt_processes(g->ctx->virt, &list, &n, err);

        for (size_t i = 0; r == 0 && i < n; i++)
                if (streq(list[i].lease.instance, g->id))
                        r = err_set(err, -ENOTCONN,
                                    "instance %s: no connection to libvirt: its guest is unknown", g->id);
        return r;
}

static int look_qemu(struct guest *g, struct guest_look *l, struct err *err)
{
        struct instance_view *v = &l->view;
        int r;

        if (v->no_libvirt_ms)
                return 0; /* and no process */
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
        v->qemu_go_on =
            health_stalled(&g->stalled_ms, l->domain.running, l->domain.job, l->domain.reason, clock_ms());
        v->pause = health_pause(l->domain.running, l->domain.job, l->domain.reason, room_now(g->ctx));
        return 0;
}

static int look_name(struct guest *g, struct guest_look *l, struct err *err)
{
        int r = lease_find(g->ctx->store, g->id, &l->lease, err);

        if (r == -ENOENT) { /* disks not made yet, or removed already: nobody's, and nothing to start */
                l->lease = (struct lease){0};
                l->view.placement_epoch = UINT64_MAX;
                r = 0;
        }
        l->view.epoch = l->lease.epoch;
        l->view.host = l->lease.host;
        return r;
}

/* May the QEMU here still write? The storage says so. */
static enum health_rights look_rights(struct guest *g, const struct guest_look *l)
{
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(&l->instance, disks);
        struct err e = {0};
        int r = lease_may_write(g->ctx->store, g->id, &l->lease, &l->domain.lease.start, disks, n, &e);

        if (r == 0)
                return RIGHTS_MINE;
        log_info("instance %s: stopped on a disk error; may it write? %s", g->id, err_text(&e));
        return r == -EACCES ? RIGHTS_REFUSED : RIGHTS_UNKNOWN;
}

/* A disk error has stopped it, and the name is ours: see health_stopped(). */
static void look_stopped(struct guest *g, struct guest_look *l)
{
        struct instance_view *v = &l->view;
        enum health_room room = room_now(g->ctx);
        enum health_rights rights = RIGHTS_UNKNOWN;
        enum health_verdict verdict;
        bool ask;

        if (v->qemu != QEMU_PAUSED || !streq(l->domain.reason, "ioerror") || v->host != v->me ||
            v->qemu_epoch != v->epoch)
                return;
        pthread_mutex_lock(&g->lock);
        if (!g->io_error) { /* reported while no hostd listened */
                g->io_error = true;
                health_stop_error(&g->stop, v->now_ms);
        }
        ask = health_stop_ask(&g->stop, room, v->now_ms);
        pthread_mutex_unlock(&g->lock);
        if (ask)
                rights = look_rights(g, l);
        pthread_mutex_lock(&g->lock);
        verdict = health_stopped(&g->stop, rights, room, v->now_ms);
        pthread_mutex_unlock(&g->lock);
        v->qemu_refused = verdict == HEALTH_KILL;
        v->qemu_go_on = verdict == HEALTH_GO_ON;
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

static void look_adopt(struct guest *g, const struct guest_look *l)
{
        if (!instance_adopts(&l->view))
                return;
        pthread_mutex_lock(&g->lock);
        g->known_pid = l->domain.pid;
        pthread_mutex_unlock(&g->lock);
}

/* Without libvirt: -ENOTCONN, unless a QEMU is here whose disk is another host's. It must end all the same,
 * and needs no libvirt for that; its epoch, 0, makes it too old whatever else is decided on. */
static int look_disowned(struct guest *g, struct guest_look *ret, struct err *err)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        struct guest_look l = {.view = {.me = g->ctx->number}};
        size_t n = 0, i = 0;
        int r;

        r = virt_processes(g->ctx->virt, &list, &n, err);
        while (r == 0 && i < n && !streq(list[i].lease.instance, g->id))
                i++;
        if (r == 0 && i < n)
                r = instance_load(g->ctx->store, g->id, &l.instance, err);
        if (r < 0 && r != -ENOENT)
                return r;
        l.record = r == 0 && i < n;
        if (l.record) {
                look_record(&l);
                r = look_name(g, &l, err);
        }
        if (i < n && (r == 0 || r == -ENOENT) && isolation_disowned(&l.view)) {
                l.view.qemu = QEMU_RUNNING;
                *ret = l;
                return 0;
        }
        guest_look_done(&l);
        return r < 0 && r != -ENOENT
                   ? r
                   : err_set(err, -ENOTCONN, "instance %s: no connection to libvirt: its guest is unknown",
                             g->id);
}

int guest_look(struct guest *g, struct guest_look *ret, struct err *err)
{
        struct guest_look l = {
            .view = {.me = g->ctx->number, .now_ms = clock_ms(), .retry_ms = g->backoff.retry_ms}};
        int r;

        l.view.no_libvirt_ms = self_no_libvirt_ms(g->ctx);
        r = l.view.no_libvirt_ms ? look_without_libvirt(g, err) : 0;
        if (r == -ENOTCONN)
                return look_disowned(g, ret, err);
        if (r < 0)
                return r;
        l.view.trusted = self_trusted(g->ctx);
        l.view.replaced = g->ctx->self->replaced;
        l.view.leaving = g->ctx->self->leaving;
        pthread_mutex_lock(&g->lock);
        l.view.leave = g->leave;
        l.view.guest_powered_off = g->powered_off;
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
                r = look_name(g, &l, err);
        }
        if (r < 0) {
                guest_look_done(&l);
                return r;
        }
        l.view.told_off = instance_told_off(&l.instance, &l.lease);
        look_stopped(g, &l);
        look_adopt(g, &l);
        *ret = l;
        return 0;
}
