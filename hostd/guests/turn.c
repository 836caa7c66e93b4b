/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/util.h"
#include "hostd/guests/guest.h"
#include "hostd/guests/table.h"
#include "migrate/turn.h"

/*
 * The turns of the guests that are to leave this host. A guest that has none looks again every second, and is woken
 * when another one has left. So what its record wants meanwhile, a stop for example, is done at once.
 */

/* With the table's lock held. */
static bool turn_now(const struct guest *g)
{
        struct guests *t = g->ctx->guests;
        _cleanup_(freep) struct turn *waiting = calloc(t->n + 1, sizeof(*waiting));
        size_t n = 0, mine = 0;
        unsigned leaving = 0;

        for (size_t i = 0; waiting && i < t->n; i++) {
                const struct guest *other = t->list[i];

                leaving += other->turn.leaving;
                if (other == g)
                        mine = n;
                if (other->turn.since_ms)
                        waiting[n++] = (struct turn){.since_ms = other->turn.since_ms,
                                                     .not_before_ms = other->turn.not_before_ms};
        }
        return waiting && turn_leaves(g->ctx->config->moves_out, leaving, waiting, n, mine, clock_ms());
}

int guest_turn_take(struct guest *g, struct err *err)
{
        struct guests *t = g->ctx->guests;
        const struct config *c = g->ctx->config;
        int r = 0;

        pthread_mutex_lock(&t->lock);
        if (!g->turn.since_ms)
                g->turn.since_ms = clock_ms();
        if (turn_now(g))
                g->turn = (struct guest_turn){.leaving = true, .first_ms = g->turn.since_ms};
        else
                r = err_set(err, -EAGAIN, "host %s sends %u at the same time, and others come first",
                            c->name, c->moves_out);
        pthread_mutex_unlock(&t->lock);
        return r;
}

void guest_turn_back(struct guest *g)
{
        struct guests *t = g->ctx->guests;

        pthread_mutex_lock(&t->lock);
        g->turn =
            (struct guest_turn){.since_ms = g->turn.first_ms, .not_before_ms = clock_ms() + TURN_AGAIN_MS};
        pthread_mutex_unlock(&t->lock);
}

void guest_turn_end(struct guest *g)
{
        struct guests *t = g->ctx->guests;
        bool left;

        pthread_mutex_lock(&t->lock);
        left = g->turn.leaving;
        g->turn = (struct guest_turn){0};
        for (size_t i = 0; left && i < t->n; i++) {
                struct guest *other = t->list[i];

                if (!other->turn.since_ms)
                        continue;
                pthread_mutex_lock(&other->lock);
                other->wake = true;
                pthread_cond_signal(&other->woken);
                pthread_mutex_unlock(&other->lock);
        }
        pthread_mutex_unlock(&t->lock);
}
