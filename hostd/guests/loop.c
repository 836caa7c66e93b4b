/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/guests/guest.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"

#define LOOK_EVERY_MS 10000 /* where nothing wakes us: news that got lost */
#define LOOK_AGAIN_MS 1000  /* after a failure */
#define STALLED_MS 5000     /* a QEMU that stands so long has been left standing */
#define BACKOFF_MAX_MS 60000
#define RUN_LONG_ENOUGH_MS 60000 /* a run of that length forgives the crashes before it */

int guest_new(struct manager *m, const char *id, struct guest **ret)
{
        struct guest *g = calloc(1, sizeof(*g));
        pthread_condattr_t attr;

        if (!g)
                return -ENOMEM;
        g->m = m;
        snprintf(g->id, sizeof(g->id), "%.36s", id);
        g->wake = true;
        pthread_mutex_init(&g->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&g->woken, &attr);
        pthread_condattr_destroy(&attr);
        *ret = g;
        return 0;
}

struct guest *guest_free(struct guest *g)
{
        if (!g)
                return NULL;
        pthread_cond_destroy(&g->woken);
        pthread_mutex_destroy(&g->lock);
        free(g);
        return NULL;
}

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
        r = virt_find(g->m->virt, g->id, &l->domain, err);
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

        r = virt_find(g->m->virt, g->id, &l->domain, err);
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
        struct guest_look l = {.view = {.me = g->m->number, .now_ms = clock_ms(), .retry_ms = g->retry_ms}};
        int r;

        if (!g->m->virt_connected)
                return err_set(err, -ENOTCONN, "instance %s: no connection to libvirt: its guest is unknown",
                               g->id);
        l.view.trusted = manager_trusted(g->m);
        pthread_mutex_lock(&g->lock);
        l.view.guest_powered_off = g->powered_off;
        l.view.qemu_fenced = g->fenced;
        l.view.qemu_io_error = g->io_error && clock_ms() >= g->resume_ms;
        pthread_mutex_unlock(&g->lock);
        /* The QEMU first, then the name: a name that moves on in between makes the QEMU look too old, which
         * is safe. */
        r = instance_load(g->m->store, g->id, &l.instance, err);
        if (r < 0 && r != -ENOENT)
                return r;
        l.record = r == 0;
        r = look_qemu(g, &l, err);
        if (r == 0 && l.record) {
                look_record(&l);
                r = lease_find(g->m->store, g->id, &l.lease, err);
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

/* Takes disks and record away; the address goes with the record (imaged gives it out again). */
static int guest_remove(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(&l->instance, disks);
        int r;

        r = lease_remove(g->m->store, g->id, &l->lease, disks, n, err);
        if (r < 0 && r != -ENOENT)
                return r;
        start_forget(g->m->store, g->id, &l->instance.start);
        dhcp_remove(g->m, g->id);
        r = guest_record_status(g->m, g->id, "deleted", &l->lease, NULL, false, err);
        if (r < 0 && r != -ENOENT)
                return r;
        event_add(g->m, "instance-removed", g->id, l->instance.name, "disks removed");
        return 0;
}

static int guest_settle(struct guest *g, const struct guest_look *l, struct err *err)
{
        bool here = l->view.qemu != QEMU_NONE;

        if (!here)
                dhcp_remove(g->m, g->id);
        return guest_record_status(g->m, g->id, here ? "running" : "stopped", &l->lease, NULL, !here, err);
}

static int guest_do(struct guest *g, const struct guest_look *l, enum instance_action action,
                    struct err *err)
{
        const struct instance *i = &l->instance;
        struct lease mine;
        int r;

        log_debug("instance %s: epoch %llu.h%u: %s", g->id, (unsigned long long)l->lease.epoch,
                  l->lease.host, instance_action_name(action));
        switch (action) {
        case ACTION_KILL:
                log_info(
                    "instance %s: ending its QEMU: disk at epoch %llu of host %u, QEMU at %llu, wanted %s",
                    g->id, (unsigned long long)l->lease.epoch, l->lease.host,
                    (unsigned long long)l->view.qemu_epoch,
                    i->wanted == WANTED_DELETED ? "deleted" : "otherwise");
                if (l->record && l->lease.host != g->m->number)
                        event_add(g->m, "guest-fenced", g->id, i->name,
                                  "guest ended: its disk belongs to host %u at epoch %llu", l->lease.host,
                                  (unsigned long long)l->lease.epoch);
                return guest_kill(g, err);
        case ACTION_NOTE_OFF:
                event_add(g->m, "instance-off", g->id, i->name, "the guest powered itself off");
                r = guest_record_off(g->m, g->id, err);
                if (r == 0) {
                        pthread_mutex_lock(&g->lock);
                        g->powered_off = false;
                        pthread_mutex_unlock(&g->lock);
                        g->failures =
                            0; /* the guest's own wish is no crash: its next start is not held back */
                        g->retry_ms = 0;
                }
                return r;
        case ACTION_START:
                return guest_start(g, l, err);
        case ACTION_STOP:
        case ACTION_RESTART:
                return guest_stop(g, l, err);
        case ACTION_MIGRATE:
                return guest_migrate(g, l, err);
        case ACTION_RESUME:
                r = virt_resume(g->m->virt, g->id, err);
                if (r == 0) {
                        pthread_mutex_lock(&g->lock);
                        g->io_error = false;
                        pthread_mutex_unlock(&g->lock);
                }
                return r;
        case ACTION_RECLAIM:
                return guest_reclaim(g, l, err);
        case ACTION_REMOVE:
                return guest_remove(g, l, err);
        case ACTION_CLAIM:
                return guest_claim(g, l, &mine, err);
        case ACTION_SETTLE:
                return guest_settle(g, l, err);
        default:
                return 0;
        }
}

/* Crashes and failed starts in a row: 1 s, 2 s, 4 s ... between tries. */
static void guest_backoff(struct guest *g)
{
        int64_t now = clock_ms(), pause = 1000;

        if (g->started_ms && now - g->started_ms > RUN_LONG_ENOUGH_MS)
                g->failures = 0;
        for (unsigned i = 0; i < g->failures && pause < BACKOFF_MAX_MS; i++)
                pause *= 2;
        g->failures++;
        g->retry_ms = now + MIN_OF(pause, BACKOFF_MAX_MS);
}

/* Has a QEMU that ran here ended, neither by us nor by a migration nor by the guest's own wish? Once for
 * each end. */
static bool guest_crashed(struct guest *g, const struct guest_look *l)
{
        const struct instance_view *v = &l->view;
        const struct instance *i = &l->instance;
        bool mine = v->host == g->m->number, ran = g->ran;

        g->ran = mine && v->qemu != QEMU_NONE && v->qemu_epoch == v->epoch;
        if (g->ran && !ran) /* it has arrived, or was adopted */
                dhcp_add(g->m, g->id, i->name, i->mac, i->address);
        return ran && mine && v->qemu == QEMU_NONE && !v->guest_powered_off;
}

/* It ran at this epoch, so says the record, and is gone, and no event told us how: hostd or libvirtd was
 * away. libvirt's log tells a guest that powered itself off. Where it tells nothing it counts as a crash:
 * the guest is started again. */
static void guest_ended_unseen(struct guest *g, struct guest_look *l)
{
        struct instance_view *v = &l->view;
        struct err e = {0};
        bool off = false;

        if (!l->record || v->host != v->me || v->qemu != QEMU_NONE || v->guest_powered_off || v->restart ||
            v->wanted != WANTED_RUNNING || l->instance.start_epoch != v->epoch ||
            !streq(l->instance.state, "running") || g->ended_epoch == v->epoch + 1)
                return;
        g->ended_epoch = v->epoch + 1; /* looked up once */
        if (virt_powered_off(l->instance.name, &off, &e) < 0)
                log_debug("instance %s: how it ended is not known: %s", g->id, err_text(&e));
        if (!off)
                return;
        pthread_mutex_lock(&g->lock);
        g->powered_off = true;
        pthread_mutex_unlock(&g->lock);
        v->guest_powered_off = true;
}

static void guest_complain(struct guest *g, enum instance_action action, const struct err *err)
{
        if (strncmp(g->complaint, err_text(err), sizeof(g->complaint) - 1) == 0)
                return;
        snprintf(g->complaint, sizeof(g->complaint), "%.255s", err_text(err));
        log_warn("instance %s: %s: %s", g->id, instance_action_name(action), err_text(err));
}

/* Sleeps until woken or the time is over; takes the notes. Returns false when hostd ends. */
static bool guest_wait(struct guest *g, int64_t ms)
{
        struct timespec until;
        int r = 0;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += ms / 1000;
        until.tv_nsec += (ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
        }
        pthread_mutex_lock(&g->lock);
        while (!g->wake && !g->m->quit && r == 0)
                r = pthread_cond_timedwait(&g->woken, &g->lock, &until);
        g->wake = false;
        g->ended_event = false;
        pthread_mutex_unlock(&g->lock);
        return !g->m->quit;
}

/* A serial that a look of value keeps: 0 while the gate is answering. */
static uint64_t gate_serial(struct guest *g)
{
        uint64_t serial;

        pthread_mutex_lock(&g->lock);
        serial = g->gates ? 0 : g->gate_serial + 1;
        pthread_mutex_unlock(&g->lock);
        return serial;
}

/* Not in the gate's answer, which the guest waits for. */
static void guest_note_commit(struct guest *g)
{
        struct err e = {0};
        int64_t ns;

        pthread_mutex_lock(&g->lock);
        ns = g->commit_ns;
        g->commit_ns = 0;
        pthread_mutex_unlock(&g->lock);
        if (ns && guest_record_commit(g->m, g->id, ns, &e) < 0)
                log_debug("instance %s: what its commit took is not in its record: %s", g->id, err_text(&e));
}

/* One look and what it asks for. Returns how long to wait before the next, or -1 to end this guest. */
static int64_t guest_step(struct guest *g)
{
        struct guest_look l = {0};
        struct err e = {0};
        enum instance_action action;
        int64_t wait = 0;
        uint64_t serial = gate_serial(g);
        bool pending;
        int r;

        if (serial == 0)
                return LOOK_AGAIN_MS; /* woken when it has answered */
        guest_note_commit(g);
        r = guest_look(g, &l, &e);
        if (r == 0 && gate_serial(g) != serial) {
                guest_look_done(&l);
                return 0; /* the gate's end is a note, and wakes */
        }
        if (r < 0) {
                guest_complain(g, ACTION_NONE, &e);
                return LOOK_AGAIN_MS;
        }
        guest_ended_unseen(g, &l);
        if (guest_crashed(g, &l))
                guest_backoff(g);
        guest_seat_look(g, &l);
        guest_failover_pause(g, &l);
        l.view.retry_ms = g->retry_ms;
        pending = guest_move_void(g, &l);
        action = instance_decide(&l.view);
        if (action == ACTION_FORGET) {
                dhcp_remove(g->m, g->id); /* of a migration that did not come */
                wait = -1;
        } else if (action == ACTION_NONE)
                wait = l.view.retry_ms > l.view.now_ms
                           ? MIN_OF(l.view.retry_ms - l.view.now_ms, LOOK_EVERY_MS)
                       : l.view.qemu == QEMU_PAUSED || !l.view.trusted || pending ? LOOK_AGAIN_MS
                                                                                  : LOOK_EVERY_MS;
        else {
                r = guest_do(g, &l, action, &e);
                if (r < 0) {
                        guest_complain(g, action, &e);
                        wait = LOOK_AGAIN_MS;
                } else {
                        g->complaint[0] = '\0';
                }
                if (r < 0 && action == ACTION_START) {
                        guest_backoff(g);
                        wait = 0;
                }
        }
        guest_look_done(&l);
        return wait;
}

/* Out of the table, unless something came in while we decided to go. */
static bool guest_leave(struct guest *g)
{
        struct manager *m = g->m;
        bool leave;

        pthread_mutex_lock(&m->lock);
        pthread_mutex_lock(&g->lock);
        leave = !g->wake && g->gates == 0;
        if (leave)
                for (size_t i = 0; i < m->n_guests; i++)
                        if (m->guests[i] == g)
                                m->guests[i] = m->guests[--m->n_guests];
        pthread_mutex_unlock(&g->lock);
        pthread_mutex_unlock(&m->lock);
        return leave;
}

void guest_run(void *arg)
{
        struct guest *g = arg;
        int64_t wait = 0;

        for (;;) {
                if (wait < 0 && guest_leave(g))
                        break;
                if (!guest_wait(g, MAX_OF(wait, 0))) /* takes what kept it from leaving, too */
                        break;
                wait = guest_step(g);
        }
        while (g->m->quit && !guest_leave(g)) { /* the gate may be at work, notes may still come in */
                pthread_mutex_lock(&g->lock);
                g->wake = false;
                pthread_mutex_unlock(&g->lock);
                poll(NULL, 0, 5);
        }
        guest_free(g);
}
