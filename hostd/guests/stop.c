/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/events.h"
#include "hostd/guests/guest.h"
#include "hostd/self.h"
#include "migrate/stop.h"

/* The end of a QEMU: at once, or as the guest likes. */

int guest_kill_processes(struct guest *g, struct err *err)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        size_t n = 0;
        int r = virt_processes(g->ctx->virt, &list, &n, err), result = 0;

        for (size_t i = 0; r >= 0 && i < n; i++)
                if (streq(list[i].lease.instance, g->id) &&
                    virt_kill_pid(g->ctx->virt, list[i].pid, g->id, err) < 0)
                        result = -EBUSY;
        return r < 0 ? r : result;
}

int guest_kill(struct guest *g, struct err *err)
{
        int r, result;

        pthread_mutex_lock(&g->lock);
        g->ending = true;
        pthread_mutex_unlock(&g->lock);
        /* By process first: that needs nobody's leave, and finds what libvirtd has forgotten. */
        result = guest_kill_processes(g, err);
        r = result == -EBUSY ? 0 : result;
        if (r == 0)
                r = virt_kill(g->ctx->virt, g->id, err);
        if (virt_unanswered(r)) /* the kernel has shown that it is gone */
                r = 0;
        pthread_mutex_lock(&g->lock);
        g->ending = false;
        g->io_error = g->powered_off = g->ended_event = false;
        g->stop = (struct health_stop){0};
        g->known_pid = 0;
        pthread_mutex_unlock(&g->lock);
        g->ran = false;
        return r < 0 ? r : result;
}

static void stop_read(struct stop_view *v, const struct instance *i)
{
        v->wanted = i->wanted;
        v->restart = i->restart != i->restart_done;
        v->force = i->stop_force;
}

/* `v` is what was last read: a record that cannot be read changes no wish. */
static enum stop_step stop_look(struct guest *g, const struct lease *mine, struct stop_view *v)
{
        struct virt_domain d;
        struct instance i;
        struct lease now;
        int r = virt_find(g->ctx->virt, g->id, &d, NULL);

        v->here = r != -ENOENT;
        v->running = r < 0 || d.running;
        v->pause = r < 0 ? PAUSE_NONE : health_pause(d.running, d.job, d.reason, ROOM_UNKNOWN);
        v->lost = lease_find(g->ctx->store, g->id, &now, NULL) == 0 && now.host != mine->host;
        pthread_mutex_lock(&g->lock);
        v->at_once = g->leave_at_once;
        pthread_mutex_unlock(&g->lock);
        if (instance_load(g->ctx->store, g->id, &i, NULL) == 0) {
                stop_read(v, &i);
                instance_done(&i);
        }
        v->now_ms = clock_ms();
        return stop_step(v);
}

/* Until the next look; an event or a note ends it. */
static void stop_pause(struct guest *g)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        ts.tv_sec++;
        pthread_mutex_lock(&g->lock);
        while (!g->wake && !g->ended_event && !g->ctx->self->quit)
                if (pthread_cond_timedwait(&g->woken, &g->lock, &ts) != 0)
                        break;
        g->wake = false;
        pthread_mutex_unlock(&g->lock);
}

/* It has been asked once. STOP_WAIT: hostd ends. */
static enum stop_step stop_wait(struct guest *g, const struct lease *mine, struct stop_view *v)
{
        enum stop_step step;

        v->begun_ms = v->asked_ms = clock_ms();
        while (!g->ctx->self->quit) {
                step = stop_look(g, mine, v);
                if (step != STOP_WAIT && step != STOP_ASK)
                        return step;
                if (step == STOP_ASK) {
                        virt_shutdown(g->ctx->virt, g->id, NULL);
                        v->asked_ms = clock_ms();
                }
                stop_pause(g);
        }
        return STOP_WAIT;
}

/* Between a look and its end lie as many seconds as the storage takes: who has asked for a start meanwhile is not
 * answered by a kill. Without an answer the wish stays. */
static bool stop_read_again(struct guest *g, struct stop_view *v)
{
        struct stop_view decided = *v;
        struct instance now;

        if (instance_load(g->ctx->store, g->id, &now, NULL) < 0)
                return true;
        stop_read(v, &now);
        instance_done(&now);
        return !stop_withdrawn(&decided, v);
}

int guest_stop(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct context *ctx = g->ctx;
        const struct instance *i = &l->instance;
        struct stop_view v = {.leave = l->view.leave};
        enum stop_step step = STOP_ENDED;
        bool at_once;
        int r = 0;

        stop_read(&v, i);
        if (!stop_read_again(g, &v))
                return 0;
        pthread_mutex_lock(&g->lock);
        g->ending = true;
        g->ended_event = false;
        v.at_once = g->leave_at_once;
        at_once = stop_forced(&v);
        pthread_mutex_unlock(&g->lock);
        if (!at_once && l->view.qemu == QEMU_RUNNING) {
                r = virt_shutdown(ctx->virt, g->id, err);
                if (r == 0 || virt_unanswered(r))
                        step = stop_wait(g, &l->lease, &v);
                if (step == STOP_GIVE_UP) {
                        pthread_mutex_lock(&g->lock);
                        g->ending = false;
                        pthread_mutex_unlock(&g->lock);
                }
                /* A hostd that ends leaves it: the next one asks again. An upgrade is no reason to pull a plug. */
                if (step == STOP_LOST || step == STOP_GIVE_UP || step == STOP_WAIT)
                        return 0;
                if (step == STOP_FORCE)
                        log_info("instance %s: stands still, or did not power off by itself: ending it",
                                 g->id);
        }
        r = guest_kill(g, err); /* clears `ending` and what the end reported */
        g->ended_epoch = l->lease.epoch + 1;
        if (r == 0)
                event_add(ctx, "instance-stopped", g->id, i->name,
                          l->view.leave && l->view.wanted == WANTED_RUNNING ? "its host goes down"
                                                                            : "stopped as asked");
        return r;
}
