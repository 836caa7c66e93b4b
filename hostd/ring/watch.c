/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/events.h"
#include "hostd/peers.h"
#include "hostd/record.h"
#include "hostd/ring/internal.h"
#include "hostd/self.h"
#include "hostd/tasks.h"
#include "migrate/takeover.h"

/* Watches one neighbour, and takes it over when it is dead. migrate/watch.h and takeover.h decide. */

/* A copy of what the ring knows of the neighbour, for one step of its thread. */
struct look {
        struct survey_host host;
        struct watch watch;
        struct homecoming home;
        bool nearest;
};

struct taking {
        struct context *ctx;
        struct takeover_claim claim;
};

/* One neighbour wins the record; whoever comes later finds another epoch. */
static int edit_take(json_t *doc, void *arg, struct err *err)
{
        struct taking *t = arg;
        char beat[CLOCK_STAMP_LEN + 1], now[CLOCK_STAMP_LEN + 1];
        struct takeover_claim *c = &t->claim;

        c->my_epoch = t->ctx->self->epoch;
        c->own_write_ms = t->ctx->self->own_write_ms;
        c->now_ms = clock_ms();
        c->last_beat = clock_stamp_ago(c->detect_ms, beat);
        c->now_text = clock_stamp(now);
        return takeover_edit_host(doc, c, err);
}

/* The list may be old: a host that has joined since is watched from its new epoch on. */
static void learn_epoch(struct neighbour *n, uint64_t epoch)
{
        pthread_mutex_lock(&n->ctx->ring->lock);
        n->host.ring.epoch = epoch;
        pthread_mutex_unlock(&n->ctx->ring->lock);
}

static void take_over(struct neighbour *n, const struct look *l)
{
        struct context *ctx = n->ctx;
        struct taking t = {
            .ctx = ctx,
            .claim = {.me = ctx->number, .watch = &l->watch, .detect_ms = clock_ms() - l->watch.changed_ms}};
        struct err e = {0};
        char id[PEER_ID_LEN];

        peer_id(n->number, id);
        if (record_change(ctx->store, RECORD_HOST, id, edit_take, &t, &e) < 0) {
                log_warn("host %s: seen dead, but its record could not be won: %s", l->host.name,
                         err_text(&e));
                return;
        }
        ctx->ring->list_now = true;
        if (!t.claim.won) {
                learn_epoch(n, t.claim.epoch);
                return;
        }
        log_warn("host %s: dead: no heartbeat for %lld ms; this host takes it over", l->host.name,
                 (long long)t.claim.detect_ms);
        event_add(ctx, "host-dead", NULL, NULL, "host %s gave no sign for %lld ms: taken over", l->host.name,
                  (long long)t.claim.detect_ms);
        takeover_start(ctx, n->number);
}

/* Alive, and was it through the same loss of power? Its record says so before its heartbeat begins. */
static void meet(struct neighbour *n, const struct look *l)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;

        if (!l->home.returning || l->home.met || !watch_alive(&l->watch) || n->met_epoch == l->watch.epoch ||
            peer_record(n->ctx, n->number, &doc, NULL) < 0)
                return;
        n->met_epoch = l->watch.epoch;
        if (!homecoming_meets(&l->watch, host_state_parse(json_get_str(doc, "state", "")) == HOST_UP,
                              json_get_bool(doc, "returning", false)))
                return;
        pthread_mutex_lock(&n->ctx->ring->lock);
        n->ctx->ring->home.met = true;
        pthread_mutex_unlock(&n->ctx->ring->lock);
}

/* A silent host that is left alone: told once for each of its epochs. */
static void let_be(struct neighbour *n, const struct look *l)
{
        if (n->told_epoch == l->watch.epoch)
                return;
        n->told_epoch = l->watch.epoch;
        if (l->host.ring.maintenance)
                event_add(n->ctx, "host-silent", NULL, NULL,
                          "host %s gives no sign, and is in maintenance: not taken over", l->host.name);
        else
                event_add(n->ctx, "host-awaited", NULL, NULL,
                          "host %s gives no sign since this host was started anew: as after a loss of all "
                          "power, it is given %d s to come back",
                          l->host.name, WATCH_RETURN_MS / 1000);
}

static void look_at(struct neighbour *n, struct look *l)
{
        struct context *ctx = n->ctx;
        int64_t asked = clock_ms();
        uint64_t counter = 0;
        enum takeover_act act;
        int r = beat_read(ctx->pulse, n->number, &counter, NULL);

        pthread_mutex_lock(&ctx->ring->lock);
        watch_look(&n->watch, l->host.ring.epoch, r == 0 || r == -ENOENT, counter, asked, clock_ms());
        l->watch = n->watch;
        l->home = ctx->ring->home;
        pthread_mutex_unlock(&ctx->ring->lock);
        meet(n, l);
        act = takeover_look(&(struct takeover_look){.watch = &l->watch,
                                                    .home = &l->home,
                                                    .number = n->number,
                                                    .own_write_ms = ctx->self->own_write_ms,
                                                    .disarmed_ms = l->host.disarmed_ms,
                                                    .now_ms = clock_ms(),
                                                    .maintenance = l->host.ring.maintenance,
                                                    .fence_holds = ctx->self->fence > 0});
        if (act == TAKEOVER_TAKE)
                take_over(n, l);
        else if (act == TAKEOVER_LET_BE && (l->nearest || !l->host.ring.maintenance))
                let_be(n, l);
}

/* What to look at, or false: it is no neighbour any more, and is off the ring's list. */
static bool neighbour_get(struct neighbour *n, struct look *ret)
{
        struct ring *r = n->ctx->ring;
        bool wanted;

        pthread_mutex_lock(&r->lock);
        wanted = n->wanted;
        if (!wanted)
                for (struct neighbour **p = &r->neighbours; *p; p = &(*p)->next)
                        if (*p == n) {
                                *p = n->next;
                                break;
                        }
        *ret = (struct look){.host = n->host, .nearest = n->nearest};
        pthread_mutex_unlock(&r->lock);
        return wanted;
}

static void neighbour_main(void *arg)
{
        struct neighbour *n = arg;
        struct look l;

        while (neighbour_get(n, &l)) {
                look_at(n, &l);
                poll(NULL, 0, watch_pause_ms(&l.watch));
        }
        free(n);
}

static struct neighbour *neighbour_of(struct ring *r, unsigned number)
{
        struct neighbour *n = r->neighbours;

        while (n && n->number != number)
                n = n->next;
        return n;
}

/* With the ring's lock. A new one is wanted by nobody until its thread is there. */
static struct neighbour *neighbour_update(struct context *ctx, const struct survey_host *h, bool nearest)
{
        struct neighbour *n = neighbour_of(ctx->ring, h->ring.number), *fresh = NULL;
        uint64_t epoch = n ? n->host.ring.epoch : 0;

        if (!n) {
                n = fresh = calloc(1, sizeof(*n));
                if (!n)
                        return NULL; /* tried again at the next listing */
                n->ctx = ctx;
                n->number = h->ring.number;
                n->sight.able_ms = clock_ms();
                n->next = ctx->ring->neighbours;
                ctx->ring->neighbours = n;
        }
        n->host = *h;
        n->host.ring.epoch = MAX_OF(h->ring.epoch, epoch); /* the record may have told a newer one */
        n->nearest = nearest;
        n->wanted = true;
        return fresh;
}

void neighbours_set(struct context *ctx, const struct survey_host *const *hosts, size_t n)
{
        struct neighbour *fresh[WATCH_NEIGHBOURS] = {0};
        struct ring *r = ctx->ring;

        pthread_mutex_lock(&r->lock);
        for (struct neighbour *x = r->neighbours; x; x = x->next)
                x->wanted = false;
        for (size_t i = 0; i < n; i++)
                fresh[i] = neighbour_update(ctx, hosts[i], i == 0);
        pthread_mutex_unlock(&r->lock);
        for (size_t i = 0; i < n; i++)
                if (fresh[i] && task_spawn(ctx->tasks, neighbour_main, fresh[i]) < 0) {
                        fresh[i]->wanted = false;
                        neighbour_get(fresh[i], &(struct look){0});
                        free(fresh[i]);
                }
}
