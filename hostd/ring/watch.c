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
#include "hostd/survey.h"

#define LOOK_MS 250         /* between two looks at the neighbours' counters */
#define LOOK_CLOSELY_MS 50  /* where one has been standing still for most of the time that makes it dead */
#define HOSTS_EVERY_MS 2000 /* the list of hosts; a look at one's own record comes with it */
#define TEST_AGAIN_MS 10000 /* a self-test that could not be tried */

/* The watch thread's own state. */
struct watcher {
        struct context *ctx;
        struct survey hosts;
        struct watch watches[WATCH_NEIGHBOURS];
        unsigned watched[WATCH_NEIGHBOURS];
        size_t n_watched;
        int64_t listed_ms;
        int64_t tested_ms;
        bool maintenance;     /* our own record said so */
        uint64_t silent_told; /* epoch of the silent host in maintenance that was told of */
};

struct taking {
        struct context *ctx;
        const struct watch *watch;
        int64_t detect_ms; /* since its last heartbeat that we saw */
        bool won;
};

/* By what its record says now: the list that the watcher goes by is of before its end, where that was in
 * order. */
static bool dead_by_record(const json_t *doc, const struct taking *t)
{
        bool stopped = streq(json_get_str(doc, "state", ""), host_state_name(HOST_STOPPED));

        return watch_dead(t->watch, t->ctx->self->own_write_ms,
                          stopped ? json_get_int(doc, "disarmed_ms", 0) : 0, clock_ms());
}

/* One neighbour wins the record; whoever comes later finds another epoch. */
static int edit_take(json_t *doc, void *arg, struct err *err)
{
        struct taking *t = arg;
        char beat[CLOCK_STAMP_LEN + 1], now[CLOCK_STAMP_LEN + 1];
        json_t *taken;

        t->won = false;
        if ((uint64_t)json_get_int(doc, "epoch", 0) != t->watch->epoch ||
            streq(json_get_str(doc, "state", ""), host_state_name(HOST_DEAD)) ||
            json_get_bool(doc, "maintenance", false) || !dead_by_record(doc, t))
                return 0;
        taken =
            json_pack("{s:i,s:I,s:b,s:I,s:s,s:s}", "by", (int)t->ctx->number, "epoch",
                      (json_int_t)t->ctx->self->epoch, "done", 0, "last_beat_ms", (json_int_t)t->detect_ms,
                      "last_beat", clock_stamp_ago(t->detect_ms, beat), "at", clock_stamp(now));
        if (!taken)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "taken", taken);
        json_object_set_new(doc, "state", json_string(host_state_name(HOST_DEAD)));
        json_object_set_new(doc, "epoch", json_integer((json_int_t)t->watch->epoch + 1));
        t->won = true;
        return 1;
}

static const struct survey_host *host_of(const struct watcher *w, unsigned number)
{
        for (size_t i = 0; i < w->hosts.n_hosts; i++)
                if (w->hosts.hosts[i].ring.number == number)
                        return &w->hosts.hosts[i];
        return NULL;
}

static void take_over(struct watcher *w, const struct survey_host *h, const struct watch *watch)
{
        struct context *ctx = w->ctx;
        int64_t now = clock_ms();
        struct taking t = {.ctx = ctx, .watch = watch, .detect_ms = now - watch->changed_ms};
        struct err e = {0};
        char id[PEER_ID_LEN];

        peer_id(h->ring.number, id);
        if (record_change(ctx->store, RECORD_HOST, id, edit_take, &t, &e) < 0) {
                log_warn("host %s: seen dead, but its record could not be won: %s", h->name, err_text(&e));
                return;
        }
        w->listed_ms = 0;
        if (!t.won)
                return;
        log_warn("host %s: dead: no heartbeat for %lld ms; this host takes it over", h->name,
                 (long long)t.detect_ms);
        event_add(ctx, "host-dead", NULL, NULL, "host %s gave no sign for %lld ms: taken over", h->name,
                  (long long)t.detect_ms);
        takeover_start(ctx, h->ring.number);
}

/* Unfinished work: of dead hosts that this one won (also before it was restarted), or whose winner it has
 * won. */
static void finish_takeovers(struct watcher *w, const struct ring_host *ring)
{
        for (size_t i = 0; i < w->hosts.n_hosts; i++) {
                const struct ring_host *h = &w->hosts.hosts[i].ring;

                if (h->state == HOST_DEAD && !h->taken_done &&
                    ring_heir(ring, w->hosts.n_hosts, h->taken_by) == w->ctx->number)
                        takeover_start(w->ctx, h->number);
        }
}

static void tell_maintenance(struct watcher *w, bool on)
{
        if (on != w->maintenance)
                event_add(w->ctx, "host-maintenance", NULL, NULL,
                          on ? "host %s is in maintenance: nobody takes it over, whatever happens to it"
                             : "host %s is no longer in maintenance: its instances are failed over again",
                          w->ctx->config->name);
        w->maintenance = on;
}

/* Somebody took this host over while it was away or slow: every guest is looked at again, then it joins as
 * new. */
static void look_at_self(struct watcher *w)
{
        struct context *ctx = w->ctx;
        const struct survey_host *self = host_of(w, ctx->number);
        struct err e = {0};

        if (self)
                tell_maintenance(w, self->ring.maintenance);
        if (!self || self->ring.epoch == ctx->self->epoch)
                return;
        log_error("host %s: fenced: its epoch %llu has passed, the record says %llu, taken by host %u",
                  ctx->config->name, (unsigned long long)ctx->self->epoch,
                  (unsigned long long)self->ring.epoch, self->ring.taken_by);
        ctx->self->rescan = true;
        if (ctx->self->quit) /* an orderly end: to join now would promise heartbeats that nobody sends */
                return;
        if (ring_join(ctx, false, &e) < 0)
                log_error("host %s: cannot join again: %s", ctx->config->name, err_text(&e));
}

static void list_hosts(struct watcher *w)
{
        _cleanup_(freep) struct ring_host *ring = NULL;
        struct survey fresh;
        unsigned next[WATCH_NEIGHBOURS];
        struct watch kept[WATCH_NEIGHBOURS] = {0};
        struct err e = {0};
        size_t n;

        if (survey_hosts(w->ctx->pulse, &fresh, &e) < 0) {
                log_debug("hosts not listed: %s", err_text(&e));
                return;
        }
        survey_done(&w->hosts);
        w->hosts = fresh;
        w->listed_ms = clock_ms();
        plug_hosts(w->ctx, &fresh);
        if (survey_ring(&fresh, &ring) < 0)
                return;
        n = ring_neighbours(ring, fresh.n_hosts, w->ctx->number, next, WATCH_NEIGHBOURS);
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < w->n_watched; k++)
                        if (w->watched[k] == next[i])
                                kept[i] = w->watches[k];
        memcpy(w->watched, next, sizeof(next));
        memcpy(w->watches, kept, sizeof(kept));
        w->n_watched = n;
        look_at_self(w);
        finish_takeovers(w, ring);
}

static void look_at(struct watcher *w, size_t k)
{
        const struct survey_host *h = host_of(w, w->watched[k]);
        struct watch *watch = &w->watches[k];
        uint64_t counter = 0;
        int r;

        if (!h)
                return;
        r = beat_read(w->ctx->pulse, h->ring.number, &counter, NULL);
        watch_look(watch, h->ring.epoch, r == 0 || r == -ENOENT, counter, clock_ms());
        if (w->ctx->self->fence <= 0 ||
            !watch_dead(watch, w->ctx->self->own_write_ms, h->disarmed_ms, clock_ms()))
                return;
        if (!h->ring.maintenance)
                take_over(w, h, watch);
        else if (k == 0 && w->silent_told != h->ring.epoch) { /* the nearest watcher tells, once */
                w->silent_told = h->ring.epoch;
                event_add(w->ctx, "host-silent", NULL, NULL,
                          "host %s gives no sign, and is in maintenance: not taken over", h->name);
        }
}

/* A host that is dead for long, or nobody's to take over, is no reason to hurry. */
static bool stands_still(const struct watcher *w)
{
        for (size_t k = 0; k < w->n_watched; k++) {
                int64_t still = w->watches[k].looked_ms - w->watches[k].changed_ms;

                if (w->watches[k].seen && still >= WATCH_DEAD_MS - LOOK_MS &&
                    still < WATCH_DEAD_MS + LOOK_MS)
                        return true;
        }
        return false;
}

static void *watch_main(void *arg)
{
        struct watcher w = {.ctx = arg};

        char text[SELFTEST_TEXT];

        while (!w.ctx->self->quit) {
                if (w.ctx->self->fence < 0 &&
                    (w.tested_ms == 0 || clock_ms() - w.tested_ms >= TEST_AGAIN_MS)) {
                        w.tested_ms = clock_ms();
                        selftest_run(w.ctx, text);
                }
                if (w.listed_ms == 0 || clock_ms() - w.listed_ms >= HOSTS_EVERY_MS)
                        list_hosts(&w);
                for (size_t k = 0; k < w.n_watched; k++)
                        look_at(&w, k);
                poll(NULL, 0, stands_still(&w) ? LOOK_CLOSELY_MS : LOOK_MS);
        }
        survey_done(&w.hosts);
        return NULL;
}

int watch_start(struct context *ctx, struct err *err)
{
        int r = -pthread_create(&ctx->ring->watch_thread, NULL, watch_main, ctx);

        if (r < 0)
                return err_set(err, r, "cannot start a thread: %s", strerror(-r));
        ctx->ring->watch_running = true;
        return 0;
}
