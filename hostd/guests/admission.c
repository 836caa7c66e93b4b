/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"
#include "hostd/guests/guest.h"
#include "hostd/guests/table.h"
#include "hostd/guests/admission.h"
#include "hostd/self.h"
#include "migrate/planner.h"
#include "migrate/turn.h"

/*
 * The guests that this host has promised to run: each that runs, starts or arrives here, or that is its own and should
 * run. One lock, the table's, is held from the count to the promise; so two starts never share the last room. What
 * planners elsewhere believe is only a hint.
 */
#define ARRIVAL_MS                                                                                          \
        15000 /* from a preflight's yes until the record has to name this host as the destination */

/* With the table's lock held: what everybody but g has been promised. */
static struct planner_host promises_of_others(struct context *ctx, const struct guest *g)
{
        struct planner_host me = {.number = ctx->number,
                                  .name = ctx->config->name,
                                  .alive = true,
                                  .cpus = ctx->capacity.cpus,
                                  .memory = ctx->capacity.memory};

        for (size_t i = 0; i < ctx->guests->n; i++) {
                const struct guest *other = ctx->guests->list[i];

                if (other != g && other->promise.held)
                        planner_use(&me, other->promise.cpus, other->promise.memory);
        }
        return me;
}

/* With the table's lock held. A guest that a scan has found and that was not looked at yet may run here. */
static bool promise_known(const struct guests *t)
{
        for (size_t i = 0; i < t->n; i++)
                if (t->list[i]->early && !t->list[i]->looked)
                        return false;
        return t->scanned;
}

/* With the table's lock held: may one more arrive beside those that do? */
static int room_turn(struct context *ctx, const struct guest *g, struct err *err)
{
        unsigned arriving = 0;

        for (size_t i = 0; i < ctx->guests->n; i++)
                arriving += ctx->guests->list[i] != g && ctx->guests->list[i]->promise.arriving;
        if (turn_arrives(ctx->config->moves_in, arriving))
                return 0;
        return err_set(err, -EUSERS, "host %s takes %u at the same time, and others are arriving",
                       ctx->config->name, ctx->config->moves_in);
}

/* With the table's lock held. */
static int promise_check(struct context *ctx, const struct guest *g, const struct instance *i,
                         struct err *err)
{
        const struct planner_need need = {.cpus = i->cpus, .memory = i->memory};
        struct planner_host me;
        char why[160];

        for (size_t k = 0; i->group[0] && k < ctx->guests->n; k++)
                if (ctx->guests->list[k] != g && streq(ctx->guests->list[k]->seat, i->group))
                        return err_set(
                            err, -EEXIST, "instance %s of the same group %s is on host %s already",
                            ctx->guests->list[k]->id, strchr(i->group, '/') + 1, ctx->config->name);
        if (g && g->promise.held)
                return 0;
        /* Guests leave the table then, and run on: what they take is not counted any more. */
        if (ctx->self->quit)
                return err_set(err, -EAGAIN, "hostd on host %s ends", ctx->config->name);
        if (!promise_known(ctx->guests))
                return err_set(err, -EAGAIN, "host %s is still finding out what runs on it",
                               ctx->config->name);
        me = promises_of_others(ctx, g);
        if (!planner_fits(&me, &need, why, sizeof(why)))
                return err_set(err, -ENOSPC, "host %s %s", ctx->config->name, why);
        return 0;
}

static void promise_hold(struct guest *g, const struct instance *i)
{
        g->promise.held = true;
        g->promise.cpus = i->cpus;
        g->promise.memory = i->memory;
}

int guest_admit(struct guest *g, const struct instance *i, struct err *err)
{
        struct guests *t = g->ctx->guests;
        int r;

        pthread_mutex_lock(&t->lock);
        r = promise_check(g->ctx, g, i, err);
        if (r == 0) {
                promise_hold(g, i);
                snprintf(g->seat, sizeof(g->seat), "%s", i->group);
        }
        pthread_mutex_unlock(&t->lock);
        return r;
}

int guests_admit_arrival(struct context *ctx, const struct instance *i, bool hold, struct err *err)
{
        struct guests *t = ctx->guests;
        struct guest *g;
        int r;

        if (hold)
                guests_wake(ctx, i->id);
        pthread_mutex_lock(&t->lock);
        g = guests_find(t, i->id);
        r = hold && !g ? err_set(err, -EAGAIN, "host %s ends, or is out of memory", ctx->config->name)
                       : promise_check(ctx, g, i, err);
        if (r == 0 && hold)
                r = room_turn(ctx, g, err);
        if (r == 0 && hold) {
                promise_hold(g, i);
                g->promise.arriving = true;
                g->promise.arrives_until_ms = clock_ms() + ARRIVAL_MS;
        }
        pthread_mutex_unlock(&t->lock);
        return r;
}

static bool arrives(const struct instance_view *v)
{
        return v->entry_epoch == v->epoch && v->entry_source && v->entry_destination == v->me;
}

/* Whether this host has to keep the room that it has promised, by what a look found. */
static bool promise_needed(const struct guest *g, const struct guest_look *l)
{
        const struct instance_view *v = &l->view;
        unsigned placed = v->placement_epoch == v->epoch ? v->placement_host : 0;

        if (!l->record)
                return false;
        if (v->qemu != QEMU_NONE || clock_ms() < g->promise.arrives_until_ms)
                return true;
        if (arrives(v))
                return true;
        return v->host == v->me && v->wanted == WANTED_RUNNING && (!placed || placed == v->me);
}

bool guest_admission_look(struct guest *g, const struct guest_look *l)
{
        struct guests *t = g->ctx->guests;
        bool here = l->record && l->view.qemu != QEMU_NONE, held;

        pthread_mutex_lock(&t->lock);
        if (l->record && l->view.host == l->view.me)
                g->promise.arrives_until_ms = 0; /* it is here */
        g->promise.arriving = l->record && (arrives(&l->view) || clock_ms() < g->promise.arrives_until_ms);
        snprintf(g->seat, sizeof(g->seat), "%s", here ? l->instance.group : "");
        if (!promise_needed(g, l))
                g->promise = (struct guest_promise){0};
        else if (l->view.qemu != QEMU_NONE || arrives(&l->view)) /* of a hostd before this one */
                promise_hold(g, &l->instance);
        held = g->promise.held;
        pthread_mutex_unlock(&t->lock);
        return held;
}

void guest_admission_looked(struct guest *g, int r)
{
        if (r == -ENOTCONN || r == -ETIMEDOUT)
                return; /* what runs here is not known yet */
        pthread_mutex_lock(&g->ctx->guests->lock);
        g->looked = true;
        pthread_mutex_unlock(&g->ctx->guests->lock);
}
