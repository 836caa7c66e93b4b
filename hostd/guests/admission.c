/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"
#include "hostd/guests/guest.h"
#include "hostd/guests/table.h"
#include "hostd/guests/admission.h"
#include "hostd/self.h"
#include "migrate/admission.h"

/*
 * Counts what this host has promised to run, and keeps the promises; migrate/admission.h decides. One lock, the
 * table's, is held from the count to the promise; so two starts never share the last room. What planners elsewhere
 * believe is only a hint.
 */

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

/* With the table's lock held. arrival: by a migration, and not only asked about. */
static int promise_check(struct context *ctx, const struct guest *g, const struct instance *i, bool arrival,
                         struct err *err)
{
        struct admission_view v = {.host = ctx->config->name,
                                   .group = i->group,
                                   .promised = g && g->promise.held,
                                   .ends = ctx->self->quit,
                                   .acts = g && g->acts,
                                   .known = promise_known(ctx->guests),
                                   .free = promises_of_others(ctx, g),
                                   .cpus = i->cpus,
                                   .memory = i->memory,
                                   .arrival = arrival,
                                   .arriving_max = ctx->config->moves_in};

        for (size_t k = 0; k < ctx->guests->n; k++) {
                const struct guest *other = ctx->guests->list[k];

                if (other == g)
                        continue;
                v.arriving += other->promise.arriving;
                if (streq(other->seat, i->group))
                        v.group_here = other->id;
        }
        return admission_check(&v, err);
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
        r = promise_check(g->ctx, g, i, false, err);
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

        pthread_mutex_lock(&t->lock);
        /* In one hold of the lock: a guest that was just made would leave again, having seen no reason to stay. */
        g = hold ? guests_get(ctx, i->id) : guests_find(t, i->id);
        r = hold && !g ? err_set(err, -EAGAIN, "host %s ends, or is out of memory", ctx->config->name)
                       : promise_check(ctx, g, i, hold, err);
        if (r == 0 && hold) {
                promise_hold(g, i);
                g->promised = true;
                g->promise.arriving = true;
                g->promise.arrives_until_ms = clock_ms() + ADMISSION_ARRIVAL_MS;
        }
        pthread_mutex_unlock(&t->lock);
        return r;
}

bool guests_arriving(struct context *ctx)
{
        struct guests *t = ctx->guests;
        bool any = false;

        pthread_mutex_lock(&t->lock);
        for (size_t i = 0; i < t->n; i++)
                any |= t->list[i]->promise.arriving;
        pthread_mutex_unlock(&t->lock);
        return any;
}

int guests_admit_commit(struct context *ctx, const struct instance *i, struct err *err)
{
        struct guests *t = ctx->guests;
        struct guest *g;
        int r = 0;

        pthread_mutex_lock(&t->lock);
        g = guests_find(t, i->id);
        /* A hostd that has just begun believes the one before it, which has promised. */
        if (!(g && g->promise.held) && promise_known(t))
                r = promise_check(ctx, g, i, false, err);
        if (r == 0 && g)
                promise_hold(g, i);
        pthread_mutex_unlock(&t->lock);
        return r;
}

/* With the table's lock held. */
static bool promise_due(const struct guest *g, const struct guest_look *l)
{
        if (admission_due(&l->view, g->early && !g->looked))
                return true;
        return admission_arrives(&l->view, 0) && promise_check(g->ctx, g, &l->instance, false, NULL) == 0;
}

bool guest_admission_look(struct guest *g, const struct guest_look *l)
{
        const struct instance_view *v = &l->view;
        struct guests *t = g->ctx->guests;
        bool here = v->record && v->qemu != QEMU_NONE, held;

        pthread_mutex_lock(&t->lock);
        if (v->record && v->host == v->me)
                g->promise.arrives_until_ms = 0; /* it is here */
        g->promise.arriving = admission_arrives(v, g->promise.arrives_until_ms);
        snprintf(g->seat, sizeof(g->seat), "%s", here ? l->instance.group : "");
        if (!admission_keeps(v, g->promise.arrives_until_ms))
                g->promise = (struct guest_promise){0};
        else if (promise_due(g, l))
                promise_hold(g, &l->instance);
        held = g->promise.held;
        pthread_mutex_unlock(&t->lock);
        return held;
}

void guest_admission_done(struct guest *g)
{
        pthread_mutex_lock(&g->ctx->guests->lock);
        g->acts = g->promised = false;
        pthread_mutex_unlock(&g->ctx->guests->lock);
}

bool guest_admission_act(struct guest *g, enum instance_action action)
{
        struct guests *t = g->ctx->guests;
        bool may;

        pthread_mutex_lock(&t->lock);
        may = !admission_acts(action) || !g->promised;
        g->acts = may && admission_acts(action);
        pthread_mutex_unlock(&t->lock);
        return may;
}

void guest_admission_looked(struct guest *g, int r)
{
        if (r == -ENOTCONN || r == -ETIMEDOUT)
                return; /* what runs here is not known yet */
        pthread_mutex_lock(&g->ctx->guests->lock);
        g->looked = true;
        pthread_mutex_unlock(&g->ctx->guests->lock);
}
