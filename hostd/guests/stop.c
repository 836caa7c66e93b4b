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

/* The end of a QEMU: at once, or as the guest likes. */

#define STOP_PATIENCE_MS 60000 /* a guest that was asked to power off and did not is ended */
#define STOP_ASK_MS 4000       /* asked again: one that boots has not heard the first time */

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

enum stop_end {
        STOP_ENDED,  /* the QEMU has */
        STOP_LOST,   /* its disk is another host's now: the next look ends it */
        STOP_STANDS, /* a disk error has stopped it, and only this host's network is a reason to end it */
        STOP_FORCE,  /* a forced stop was asked for, or the deadline has passed */
};

static void stop_read(struct stop_view *v, const struct instance *i)
{
        v->wanted = i->wanted;
        v->restart = i->restart != i->restart_done;
        v->force = i->stop_force;
}

/* Asks again now and then, and waits. `v` is what was last read: a record that cannot be read changes no wish. */
static enum stop_end stop_wait(struct guest *g, const struct lease *mine, struct stop_view v, int64_t until)
{
        int64_t ask = clock_ms() + STOP_ASK_MS;

        for (;;) {
                struct virt_domain d;
                struct instance i;
                struct lease now;
                struct timespec ts;
                enum stop_step step;
                int r = virt_find(g->ctx->virt, g->id, &d, NULL);

                if (r == -ENOENT)
                        return STOP_ENDED;
                if (lease_find(g->ctx->store, g->id, &now, NULL) == 0 && now.host != mine->host)
                        return STOP_LOST;
                if (instance_load(g->ctx->store, g->id, &i, NULL) == 0) {
                        stop_read(&v, &i);
                        instance_done(&i);
                }
                if (r == 0)
                        v.stands = !d.running && streq(d.reason, "ioerror");
                step = stop_decide(&v);
                if (step == STOP_GIVE_UP)
                        return STOP_STANDS;
                if (step == STOP_END || clock_ms() >= until || g->ctx->self->quit)
                        return STOP_FORCE;
                if (clock_ms() >= ask) {
                        virt_shutdown(g->ctx->virt, g->id, NULL);
                        ask = clock_ms() + STOP_ASK_MS;
                }
                clock_gettime(CLOCK_MONOTONIC, &ts);
                ts.tv_sec++;
                pthread_mutex_lock(&g->lock);
                if (g->leave_at_once) {
                        pthread_mutex_unlock(&g->lock);
                        return STOP_FORCE;
                }
                while (!g->wake && !g->ended_event && !g->ctx->self->quit)
                        if (pthread_cond_timedwait(&g->woken, &g->lock, &ts) != 0)
                                break;
                g->wake = false;
                pthread_mutex_unlock(&g->lock);
        }
}

int guest_stop(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct context *ctx = g->ctx;
        const struct instance *i = &l->instance;
        struct stop_view wish = {.leave = l->view.leave};
        enum stop_end end = STOP_ENDED;
        bool at_once;
        int r = 0;

        stop_read(&wish, i);
        pthread_mutex_lock(&g->lock);
        g->ending = true;
        g->ended_event = false;
        at_once = stop_decide(&wish) == STOP_END || g->leave_at_once;
        pthread_mutex_unlock(&g->lock);
        if (!at_once && l->view.qemu == QEMU_RUNNING) {
                r = virt_shutdown(ctx->virt, g->id, err);
                if (r == 0 || virt_unanswered(r))
                        end = stop_wait(g, &l->lease, wish, clock_ms() + STOP_PATIENCE_MS);
                if (end == STOP_LOST)
                        return 0;
                if (end == STOP_STANDS) {
                        pthread_mutex_lock(&g->lock);
                        g->ending = false;
                        pthread_mutex_unlock(&g->lock);
                        return 0;
                }
                if (end == STOP_FORCE) {
                        if (ctx->self->quit) /* the next hostd asks it again: an upgrade of ours is no reason
                                        to pull its plug */
                                return 0;
                        log_info("instance %s: did not power off by itself: ending it", g->id);
                }
        }
        r = guest_kill(g, err); /* clears `ending` and what the end reported */
        g->ended_epoch = l->lease.epoch + 1;
        if (r == 0)
                event_add(ctx, "instance-stopped", g->id, i->name,
                          l->view.leave && l->view.wanted == WANTED_RUNNING ? "its host goes down"
                                                                            : "stopped as asked");
        return r;
}
