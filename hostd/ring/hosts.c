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
#include "hostd/plug/plug.h"
#include "hostd/record.h"
#include "hostd/ring/internal.h"
#include "hostd/self.h"
#include "hostd/tasks.h"
#include "migrate/identity.h"
#include "migrate/takeover.h"

/*
 * The list of hosts: who the neighbours are, whose takeovers are left to this host, and whether the own
 * record still says what this hostd wrote. A listing may take seconds, so no verdict on a neighbour waits
 * for this thread.
 */
#define TICK_MS 100
#define HOSTS_EVERY_MS 2000 /* between two listings; a look at one's own record comes with it */
#define TEST_AGAIN_MS 10000 /* a self-test that could not be tried */

/* The hosts thread's own state. */
struct lister {
        struct context *ctx;
        struct survey hosts;
        int64_t listed_ms, tested_ms;
        bool maintenance; /* our own record said so */
};

static const struct survey_host *host_of(const struct lister *l, unsigned number)
{
        for (size_t i = 0; i < l->hosts.n_hosts; i++)
                if (l->hosts.hosts[i].ring.number == number)
                        return &l->hosts.hosts[i];
        return NULL;
}

/* Unfinished work: of dead hosts that this one won (also before it was restarted), or whose winner it has
 * won. */
static void finish_takeovers(struct lister *l, const struct ring_host *ring)
{
        for (size_t i = 0; i < l->hosts.n_hosts; i++) {
                const struct ring_host *h = &l->hosts.hosts[i].ring;

                if (!h->taken_done && takeover_mine(ring, l->hosts.n_hosts, h, l->ctx->number))
                        takeover_start(l->ctx, h->number);
        }
}

static void tell_maintenance(struct lister *l, bool on)
{
        if (on != l->maintenance)
                event_add(l->ctx, "host-maintenance", NULL, NULL,
                          on ? "host %s is in maintenance: nobody takes it over, whatever happens to it"
                             : "host %s is no longer in maintenance: its instances are failed over again",
                          l->ctx->config->name);
        l->maintenance = on;
}

/* Somebody took this host over while it was away or slow: every guest is looked at again, then it joins as
 * new. */
static void join_again(struct context *ctx, const json_t *doc)
{
        struct err e = {0};

        log_error("host %s: fenced: its epoch %llu has passed, the record says %lld, taken by host %lld",
                  ctx->config->name, (unsigned long long)ctx->self->epoch,
                  (long long)json_get_int(doc, "epoch", 0),
                  (long long)json_get_int(json_object_get(doc, "taken"), "by", 0));
        ctx->self->rescan = true;
        if (ctx->self->quit) /* an orderly end: to join now would promise heartbeats that nobody sends */
                return;
        if (ring_join(ctx, &e) < 0)
                log_error("host %s: cannot join again: %s", ctx->config->name, err_text(&e));
}

/* The list only hints, since it may lag behind: the record itself decides. */
static void look_at_self(struct lister *l)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;
        struct context *ctx = l->ctx;
        const struct survey_host *self = host_of(l, ctx->number);
        struct machine machine;
        enum identity_verdict verdict;
        struct err e = {0};

        if (self)
                tell_maintenance(l, self->ring.maintenance);
        if (!self || (self->ring.epoch == ctx->self->epoch && streq(self->nonce, ctx->nonce)))
                return;
        if (peer_record(ctx, ctx->number, &doc, &e) < 0) {
                log_debug("own record not read: %s", err_text(&e));
                return;
        }
        machine = machine_of_record(doc);
        verdict = identity_check(&ctx->ring->identity->self, ctx->nonce, ctx->self->epoch, &machine,
                                 json_get_str(doc, "nonce", ""), (uint64_t)json_get_int(doc, "epoch", 0));
        if (verdict == IDENTITY_TAKEN)
                join_again(ctx, doc);
        if (verdict != IDENTITY_SUPERSEDED && verdict != IDENTITY_REPLACED)
                return;
        ctx->self->superseded = verdict == IDENTITY_SUPERSEDED;
        ctx->self->replaced = verdict == IDENTITY_REPLACED;
        ctx->self->rescan = true;
        log_error(
            verdict == IDENTITY_SUPERSEDED
                ? "host %s: a newer hostd of this machine, at %s, has joined as number %u: this one "
                  "ends, guests run on"
                : "host %s: another machine, at %s, has joined as number %u: this one trusts itself no "
                  "more, and ends every guest that is not its any more",
            ctx->config->name, json_get_str(doc, "address", "?"), ctx->number);
}

static int edit_home(json_t *doc, void *arg, struct err *err)
{
        const struct context *ctx = arg;

        (void)err;
        if (!streq(json_get_str(doc, "nonce", ""), ctx->nonce))
                return 0;
        json_object_set_new(doc, "returning", json_false());
        return 1;
}

/* From now on a host that comes back takes this one for one that was here all along. */
static void end_homecoming(struct context *ctx)
{
        struct ring *r = ctx->ring;
        struct err e = {0};
        char id[PEER_ID_LEN];
        bool over;

        pthread_mutex_lock(&r->lock);
        over = r->home.returning && homecoming_over(&r->home, clock_ms());
        pthread_mutex_unlock(&r->lock);
        if (!over)
                return;
        peer_id(ctx->number, id);
        if (record_change(ctx->store, RECORD_HOST, id, edit_home, ctx, &e) < 0) {
                log_debug("end of the return not recorded yet: %s", err_text(&e));
                return;
        }
        pthread_mutex_lock(&r->lock);
        r->home.returning = false;
        pthread_mutex_unlock(&r->lock);
}

/* Whoever has a newer epoch later has joined since. Without memory for it, all are waited for. */
static void remember_first(struct ring *r, const struct ring_host *hosts, size_t n)
{
        struct ring_host *copy = r->first || n == 0 ? NULL : calloc(n, sizeof(*copy));

        if (!copy)
                return;
        memcpy(copy, hosts, n * sizeof(*copy));
        pthread_mutex_lock(&r->lock);
        r->first = copy;
        r->home.first = copy;
        r->home.n_first = n;
        pthread_mutex_unlock(&r->lock);
}

static void list_hosts(struct lister *l)
{
        _cleanup_(freep) struct ring_host *ring = NULL;
        const struct survey_host *next[WATCH_NEIGHBOURS];
        unsigned numbers[WATCH_NEIGHBOURS];
        struct context *ctx = l->ctx;
        struct survey fresh;
        struct err e = {0};
        size_t n;

        l->listed_ms = clock_ms(); /* of the try: a listing that failed is not repeated at once */
        if (survey_hosts(ctx->store, &fresh, &e) < 0) {
                log_debug("hosts not listed: %s", err_text(&e));
                return;
        }
        survey_done(&l->hosts);
        l->hosts = fresh;
        l->listed_ms = clock_ms();
        pthread_mutex_lock(&ctx->ring->lock);
        ctx->ring->listed_ms = l->listed_ms;
        pthread_mutex_unlock(&ctx->ring->lock);
        plug_hosts(ctx, &fresh);
        if (survey_ring(&fresh, &ring) < 0)
                return;
        remember_first(ctx->ring, ring, fresh.n_hosts);
        n = ring_neighbours(ring, fresh.n_hosts, ctx->number, numbers, WATCH_NEIGHBOURS);
        for (size_t i = 0; i < n; i++)
                next[i] = host_of(l, numbers[i]);
        neighbours_set(ctx, next, n);
        look_at_self(l);
        end_homecoming(ctx);
        if (!ctx->self->replaced)
                finish_takeovers(l, ring);
}

static void test_main(void *arg)
{
        struct context *ctx = arg;
        char text[SELFTEST_TEXT];

        selftest_run(ctx, text);
        ctx->ring->testing = false;
}

/* On a task of its own: it takes seconds. */
static void test_fence(struct lister *l)
{
        struct context *ctx = l->ctx;

        if (ctx->self->fence >= 0 || (l->tested_ms && clock_ms() - l->tested_ms < TEST_AGAIN_MS) ||
            atomic_exchange(&ctx->ring->testing, true))
                return;
        l->tested_ms = clock_ms();
        if (task_spawn(ctx->tasks, test_main, ctx) < 0)
                ctx->ring->testing = false;
}

static void hosts_main(void *arg)
{
        struct lister l = {.ctx = arg};
        struct ring *r = l.ctx->ring;

        while (self_works(l.ctx)) {
                test_fence(&l);
                if (l.listed_ms == 0 || clock_ms() - l.listed_ms >= HOSTS_EVERY_MS ||
                    atomic_exchange(&r->list_now, false))
                        list_hosts(&l);
                poll(NULL, 0, TICK_MS);
        }
        neighbours_set(l.ctx, NULL, 0);
        survey_done(&l.hosts);
}

int watch_start(struct context *ctx, struct err *err)
{
        int r = task_spawn(ctx->tasks, hosts_main, ctx);

        if (r == 0)
                r = task_spawn(ctx->tasks, sight_main, ctx);
        return r < 0 ? err_set(err, r, "cannot start a thread: %s", strerror(-r)) : 0;
}
