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
#include "hostd/dhcp.h"
#include "hostd/events.h"
#include "hostd/guests/table.h"
#include "hostd/plug/plug.h"
#include "hostd/self.h"
#include "migrate/health.h"

#define LOOK_EVERY_MS 10000 /* where nothing wakes us: news that got lost */
#define LOOK_AGAIN_MS 1000  /* after a failure */

int guest_new(struct context *ctx, const char *id, struct guest **ret)
{
        struct guest *g = calloc(1, sizeof(*g));
        pthread_condattr_t attr;

        if (!g)
                return -ENOMEM;
        g->ctx = ctx;
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

/* Takes disks and record away; the address goes with the record (imaged gives it out again). */
static int guest_remove(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(&l->instance, disks);
        int r;

        r = lease_remove(g->ctx->store, g->id, &l->lease, disks, n, err);
        if (r < 0 && r != -ENOENT)
                return r;
        start_forget(g->ctx->store, g->id, &l->instance.start);
        dhcp_remove(g->ctx, g->id);
        r = guest_record_status(g->ctx, g->id, &(struct guest_status){.state = "deleted"}, &l->lease, err);
        if (r < 0 && r != -ENOENT)
                return r;
        event_add(g->ctx, "instance-removed", g->id, l->instance.name, "disks removed");
        return 0;
}

static void retry_stamp(struct guest *g)
{
        clock_stamp_ago(clock_ms() - g->backoff.retry_ms, g->retry_at);
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
                if (l->lease.host != g->ctx->number) /* its end may take a while */
                        plug_shut(g->ctx, g->id);
                log_info(
                    "instance %s: ending its QEMU: disk at epoch %llu of host %u, QEMU at %llu, wanted %s",
                    g->id, (unsigned long long)l->lease.epoch, l->lease.host,
                    (unsigned long long)l->view.qemu_epoch,
                    i->wanted == WANTED_DELETED ? "deleted" : "otherwise");
                if (l->record && l->lease.host != g->ctx->number)
                        event_add(g->ctx, "guest-fenced", g->id, i->name,
                                  "guest ended: its disk belongs to host %u at epoch %llu", l->lease.host,
                                  (unsigned long long)l->lease.epoch);
                return guest_kill(g, err);
        case ACTION_NOTE_OFF:
                event_add(g->ctx, "instance-off", g->id, i->name, "the guest powered itself off");
                r = guest_record_off(g->ctx, g->id, err);
                if (r == 0) {
                        pthread_mutex_lock(&g->lock);
                        g->powered_off = false;
                        pthread_mutex_unlock(&g->lock);
                        /* The guest's own wish is no crash: its next start is not held back. */
                        backoff_off(&g->backoff);
                        g->crashed = false;
                }
                return r;
        case ACTION_START:
                return guest_start(g, l, err);
        case ACTION_HAND_ON:
                backoff_failed(&g->backoff, clock_ms());
                retry_stamp(g);
                guest_give_up(g, l);
                return 0;
        case ACTION_STOP:
        case ACTION_RESTART:
                return guest_stop(g, l, err);
        case ACTION_MIGRATE:
                return guest_migrate(g, l, err);
        case ACTION_RESUME:
                return virt_resume(g->ctx->virt, g->id, err);
        case ACTION_RECLAIM:
                return guest_reclaim(g, l, err);
        case ACTION_REMOVE:
                return guest_remove(g, l, err);
        case ACTION_CLAIM:
                r = guest_claim(g, l, &mine, err);
                return r == -ESTALE ? 0 : r;
        case ACTION_SETTLE:
                return guest_settle(g, l, err);
        default:
                return 0;
        }
}

/* Somebody has to say that it ended, and when it comes back: its user sees no more than a reboot. */
static void guest_crash(struct guest *g, const struct guest_look *l)
{
        backoff_failed(&g->backoff, clock_ms());
        retry_stamp(g);
        g->crashed = true;
        pthread_mutex_lock(&g->lock);
        snprintf(g->crash, sizeof(g->crash), "%s", health_end_name(g->end_word));
        g->end_word[0] = '\0';
        pthread_mutex_unlock(&g->lock);
        if (l->view.wanted == WANTED_RUNNING && !l->view.restart)
                event_add(g->ctx, "instance-crashed", g->id, l->instance.name,
                          "%s; start %u comes in %lld s", g->crash, g->backoff.failures,
                          (long long)(g->backoff.retry_ms - clock_ms() + 500) / 1000);
}

/* Once for each end. */
static bool guest_crashed(struct guest *g, const struct guest_look *l)
{
        const struct instance_view *v = &l->view;
        const struct instance *i = &l->instance;
        bool mine = v->host == g->ctx->number, ran = g->ran;

        g->ran = mine && v->qemu != QEMU_NONE && v->qemu_epoch == v->epoch;
        if (g->ran && !ran) { /* it has arrived, or was adopted */
                dhcp_add(g->ctx, g->id, i->name, i->mac, i->address);
                plug_announce(g->ctx, g->id, i->mac, i->address);
        }
        return instance_crashed(v, ran);
}

/*
 * It ran at this epoch, so says the record, and is gone. Was that its own wish? An event may have told, or
 * nobody listened: hostd or libvirtd was away. libvirt's log tells the rest. Where nothing tells, the guest
 * is started again.
 */
static void guest_judge_end(struct guest *g, struct guest_look *l)
{
        struct instance_view *v = &l->view;
        const struct end_look seen = {.heard = v->guest_powered_off,
                                      .record_says_running = streq(l->instance.state, "running"),
                                      .ran_at_epoch = l->instance.start_epoch == v->epoch,
                                      .known = g->ended_epoch == v->epoch + 1};
        struct virt_end log = {0};
        struct end_view end = {.host_leaves = g->ctx->self->leaving};
        struct err e = {0};

        if (!l->record || v->host != v->me || v->qemu != QEMU_NONE || v->restart ||
            v->wanted != WANTED_RUNNING)
                return;
        if (!health_end_asks(&seen))
                return;
        g->ended_epoch = v->epoch + 1; /* unheard, it is looked up once */
        if (virt_ended(l->instance.name, &log, &e) < 0)
                log_debug("instance %s: how it ended is not known: %s", g->id, err_text(&e));
        end.word = seen.heard || log.off ? END_POWER_OFF : END_UNKNOWN;
        pthread_mutex_lock(&g->lock);
        end.pressed = log.pressed || g->pressed_ms;
        end.pressed_ms = log.pressed ? log.pressed_ms : clock_ms() - g->pressed_ms;
        pthread_mutex_unlock(&g->lock);
        end.rebooted = !seen.heard && !streq(l->instance.start_boot, g->ctx->self->boot);
        v->guest_powered_off = health_wished_off(&end);
        pthread_mutex_lock(&g->lock);
        g->powered_off = v->guest_powered_off;
        pthread_mutex_unlock(&g->lock);
}

/* Returns whether that is news. */
static bool guest_complain(struct guest *g, enum instance_action action, const struct err *err)
{
        if (strncmp(g->complaint, err_text(err), sizeof(g->complaint) - 1) == 0)
                return false;
        snprintf(g->complaint, sizeof(g->complaint), "%.255s", err_text(err));
        log_warn("instance %s: %s: %s", g->id, instance_action_name(action), err_text(err));
        return true;
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
        g->busy = false;
        while (!g->wake && !g->ctx->self->quit && r == 0)
                r = pthread_cond_timedwait(&g->woken, &g->lock, &until);
        g->wake = false;
        g->ended_event = false;
        g->busy = true; /* until it waits again */
        pthread_mutex_unlock(&g->lock);
        return !g->ctx->self->quit;
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
        if (ns && guest_record_commit(g->ctx, g->id, ns, &e) < 0)
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
        bool pending, room, news;
        int r;

        if (serial == 0)
                return LOOK_AGAIN_MS; /* woken when it has answered */
        guest_note_commit(g);
        guest_admission_done(g);
        r = guest_look(g, &l, &e);
        if (r < 0)
                guest_admission_looked(g, r);
        if (r == 0 && gate_serial(g) != serial) {
                guest_look_done(&l);
                return 0; /* the gate's end is a note, and wakes */
        }
        if (r < 0) {
                guest_complain(g, ACTION_NONE, &e);
                return LOOK_AGAIN_MS;
        }
        pthread_mutex_lock(&g->lock);
        g->runs = l.view.qemu == QEMU_RUNNING;
        pthread_mutex_unlock(&g->lock);
        guest_judge_end(g, &l);
        if (guest_crashed(g, &l))
                guest_crash(g, &l);
        room = guest_admission_look(g, &l);
        guest_admission_looked(g, 0);
        plug_look(g->ctx, &l.view, g->id);
        guest_failover_pause(g, &l);
        l.view.retry_ms = g->backoff.retry_ms;
        l.view.crashed = g->crashed;
        l.view.fixed = guest_fixed(&l);
        l.view.failed_starts =
            guest_chain(&l) ? 0 : g->backoff.failed_starts; /* a chain hands on by itself */
        l.view.placed_ms = placement_look(&g->placed, &l.view);
        l.view.placed_pause_ms = guest_chain_pause_ms(&l);
        if (!l.view.replaced) /* the record is the other machine's to write */
                guest_status_look(g, &l);
        pending = !l.view.replaced && guest_move_settle(g, &l);
        action = instance_decide(&l.view);
        if (action != ACTION_MIGRATE)
                guest_turn_end(g); /* others need not wait behind it */
        if (action == ACTION_FORGET && room)
                wait = LOOK_AGAIN_MS; /* a migration is on its way here */
        else if (action == ACTION_FORGET) {
                dhcp_remove(g->ctx, g->id); /* of a migration that did not come */
                wait = -1;
        } else if (action == ACTION_NONE && guest_uplink(g, &l))
                wait = 0;
        else if (action == ACTION_NONE)
                wait = l.view.retry_ms > l.view.now_ms
                           ? MIN_OF(l.view.retry_ms - l.view.now_ms, LOOK_EVERY_MS)
                       : l.view.qemu == QEMU_PAUSED || !l.view.trusted || pending || l.view.placed_ms ||
                               l.view.no_libvirt_ms
                           ? LOOK_AGAIN_MS
                           : LOOK_EVERY_MS;
        else if (!guest_admission_act(g, action))
                wait = 0; /* what arrives was let in beside that look */
        else {
                r = guest_do(g, &l, action, &e);
                guest_admission_done(g);
                if (r < 0) {
                        news = guest_complain(g, action, &e);
                        wait = LOOK_AGAIN_MS;
                } else {
                        g->complaint[0] = '\0';
                }
                if (r < 0 && r != -EAGAIN && action == ACTION_START) {
                        backoff_start_failed(&g->backoff, r == -ETIME, clock_ms());
                        retry_stamp(g);
                        guest_start_failed(g, &l, news, &e);
                        wait = 0;
                }
        }
        guest_look_done(&l);
        return wait;
}

/* Out of the table, unless something came in while we decided to go. */
static bool guest_leave(struct guest *g)
{
        struct context *ctx = g->ctx;
        bool leave;

        pthread_mutex_lock(&ctx->guests->lock);
        pthread_mutex_lock(&g->lock);
        leave = !g->wake && g->gates == 0;
        if (leave)
                guests_drop(ctx->guests, g);
        pthread_mutex_unlock(&g->lock);
        pthread_mutex_unlock(&ctx->guests->lock);
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
        while (g->ctx->self->quit &&
               !guest_leave(g)) { /* the gate may be at work, notes may still come in */
                pthread_mutex_lock(&g->lock);
                g->wake = false;
                pthread_mutex_unlock(&g->lock);
                poll(NULL, 0, 5);
        }
        guest_free(g);
}
