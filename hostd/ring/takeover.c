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
#include "hostd/guests/table.h"
#include "hostd/peers.h"
#include "hostd/record.h"
#include "hostd/ring/internal.h"
#include "hostd/self.h"
#include "hostd/tasks.h"
#include "hostd/survey.h"
#include "migrate/failover.h"
#include "migrate/takeover.h"

/*
 * Carries out migrate's failover machine for one dead host, on a thread of its own: writes each placement
 * into the instance's record, tells the target to look, and watches the names. It may be ended and begun
 * again anywhere.
 */
#define STEP_MS 20

struct takeover {
        struct context *ctx;
        unsigned dead;
        uint64_t epoch; /* of its record, when this round began: which of its deaths is worked on */
        int64_t detect_ms, begun_ms;
        char last_beat[CLOCK_STAMP_LEN + 1]; /* of the dead host, by its winner's clock */
        struct failover failover;
        struct failover_item *items;
        char (*told)[UUID_LEN + 1]; /* instances whose failure was reported: once each */
        size_t n_told;
};

struct placing {
        struct takeover *t;
        struct takeover_placing what;
};

static struct placing placing_of(struct takeover *t, const struct failover_item *item)
{
        return (struct placing){.t = t,
                                .what = {.dead = t->dead,
                                         .me = t->ctx->number,
                                         .detect_ms = t->detect_ms,
                                         .last_beat = t->last_beat,
                                         .item = item}};
}

static int edit_place(json_t *doc, void *arg, struct err *err)
{
        struct placing *p = arg;

        p->what.plan_ms = clock_ms() - p->t->begun_ms;
        return takeover_edit_place(doc, &p->what, err);
}

/* The target may be this host. */
static int ask_to_start(struct context *ctx, unsigned target, const char *instance, struct err *err)
{
        if (target != ctx->number)
                return peer_look(ctx, target, instance, true, err);
        guests_wake(ctx, instance);
        return self_can_start(ctx, err);
}

static void place(struct takeover *t, struct failover_item *item, struct planner_host *hosts, size_t n_hosts)
{
        struct placing p = placing_of(t, item);
        struct err e = {0};
        bool looked;
        int r;

        r = record_change(t->ctx->store, RECORD_INSTANCE, item->instance, edit_place, &p, &e);
        if (r == -ENOENT) {
                failover_gone(&t->failover, item);
                return;
        }
        looked = r == 0;
        if (looked)
                r = ask_to_start(t->ctx, item->target, item->instance, &e);
        /* One that does not answer, or can start nothing, is asked for none of the others either. */
        for (size_t i = 0; r < 0 && looked && i < n_hosts; i++)
                if (hosts[i].number == item->target)
                        hosts[i].alive = false;
        if (r < 0) {
                log_warn("instance %s: placing on host %u: %s", item->instance, item->target, err_text(&e));
                failover_refused(&t->failover, item, err_text(&e));
        }
}

/* Collects the instances that the takeover has to place. In the survey they count as the dead host's from here
 * on: the machine counts what it has placed itself. */
static int collect(struct takeover *t, struct survey *s)
{
        struct failover_item *items = calloc(s->n_instances + 1, sizeof(*items));
        size_t n = 0;

        if (!items)
                return -ENOMEM;
        for (size_t i = 0; i < s->n_instances; i++) {
                struct survey_instance *in = &s->instances[i];
                const struct takeover_instance seen = survey_seen(s, in);
                enum takeover_share share = takeover_share(&seen, t->dead);
                bool run = in->wanted == WANTED_RUNNING;

                if (share == TAKEOVER_NONE)
                        continue;
                items[n] = (struct failover_item){.priority = in->priority,
                                                  .cpus = run ? in->cpus : 0,
                                                  .memory = run ? in->memory : 0,
                                                  .group = run ? in->group : NULL,
                                                  .epoch = in->lease.epoch};
                if (share == TAKEOVER_AWAIT) {
                        items[n].state = FAILOVER_PLACED;
                        items[n].target = in->placement;
                        items[n].deadline_ms = clock_ms() + FAILOVER_PATIENCE_MS;
                }
                in->placement = t->dead;
                memcpy(items[n++].instance, in->id, sizeof(items[0].instance));
        }
        t->items = items;
        failover_init(&t->failover, t->dead, items, n);
        return 0;
}

static int edit_failed(json_t *doc, void *arg, struct err *err)
{
        const struct placing *p = arg;

        (void)err;
        return takeover_edit_failed(doc, &p->what);
}

static void tell_failed(struct takeover *t, const struct failover_item *item)
{
        struct placing p = placing_of(t, item);
        struct instance now;
        struct err e = {0};
        bool wanted;
        void *more;

        for (size_t i = 0; i < t->n_told; i++)
                if (streq(t->told[i], item->instance))
                        return;
        if (instance_load(t->ctx->store, item->instance, &now, NULL) == 0) {
                wanted = now.wanted == WANTED_RUNNING;
                instance_done(&now);
                if (!wanted) /* stopped or removed by its user meanwhile */
                        return;
        }
        log_error("instance %s: not restarted yet: %s", item->instance, item->reason);
        if (record_change(t->ctx->store, RECORD_INSTANCE, item->instance, edit_failed, &p, &e) < 0)
                log_warn("instance %s: its record does not say so: %s", item->instance, err_text(&e));
        event_add(t->ctx, "failover-failed", item->instance, NULL,
                  "not restarted yet after the loss of host %u: %s", t->dead, item->reason);
        more = reallocarray(t->told, t->n_told + 1, sizeof(*t->told));
        if (!more) /* said again at the next try */
                return;
        t->told = more;
        memcpy(t->told[t->n_told++], item->instance, sizeof(*t->told));
}

/* No name, no record: its user has removed it. No name alone: a listing may miss one that is just renamed.
 */
static bool removed(struct takeover *t, const struct failover_item *item)
{
        struct instance now;
        int r = instance_load(t->ctx->store, item->instance, &now, NULL);
        bool gone = r == -ENOENT || (r == 0 && now.wanted == WANTED_DELETED);

        if (r == 0)
                instance_done(&now);
        return gone;
}

static void look_at_placed(struct takeover *t, struct failover_item *item)
{
        struct lease now;
        int r = lease_find(t->ctx->store, item->instance, &now, NULL);

        if (r == -ENOENT && removed(t, item))
                failover_gone(&t->failover, item);
        else if (r == 0 || r == -ENOENT)
                failover_seen(&t->failover, item, r == 0 ? now.epoch : item->epoch, clock_ms());
}

static void step(struct takeover *t, struct planner_host *hosts, size_t n_hosts)
{
        struct failover *f = &t->failover;
        struct failover_item *item;

        while ((item = failover_next(f, hosts, n_hosts, clock_ms())) != NULL) {
                if (item->state == FAILOVER_FAILED) {
                        tell_failed(t, item);
                        continue;
                }
                place(t, item, hosts, n_hosts);
        }
        for (size_t i = 0; i < f->n_items; i++)
                if (f->items[i].state == FAILOVER_PLACED)
                        look_at_placed(t, &f->items[i]);
}

static int edit_done(json_t *doc, void *arg, struct err *err)
{
        const struct takeover *t = arg;

        (void)err;
        return takeover_edit_done(doc, t->epoch);
}

/* From its record and not from the survey: a list may lag behind our own winning of it. */
static int still_dead(struct takeover *t, bool *ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *host = NULL;
        int r = peer_record(t->ctx, t->dead, &host, err);
        const json_t *taken;

        if (r < 0)
                return r;
        taken = json_object_get(host, "taken");
        *ret = streq(json_get_str(host, "state", ""), host_state_name(HOST_DEAD));
        t->epoch = (uint64_t)json_get_int(host, "epoch", 0);
        t->detect_ms = json_get_int(taken, "last_beat_ms", 0);
        snprintf(t->last_beat, sizeof(t->last_beat), "%s", json_get_str(taken, "last_beat", ""));
        return 0;
}

/* One round. Returns 1 when something is left that found no place, 0 when nothing is. */
static int takeover_work(struct takeover *t, struct err *err)
{
        _cleanup_(freep) struct planner_host *hosts = NULL;
        _cleanup_(freep) struct failover_seat *seats = NULL;
        struct survey s;
        size_t n_hosts = 0, left = 0;
        bool dead = false;
        int r;

        free(take(t->items));
        t->failover = (struct failover){0};
        r = still_dead(t, &dead, err);
        if (r < 0 || !dead) /* one that is back looks after its own */
                return r;
        r = survey_all(t->ctx->store, &s, err);
        if (r < 0)
                return r;
        r = collect(t, &s);
        if (r == 0)
                r = survey_plan(&s, &hosts, &n_hosts);
        if (r == 0)
                r = survey_seats(&s, NULL, t->dead, &seats, &t->failover.n_seats);
        t->failover.seats = seats;
        if (r < 0) {
                survey_done(&s);
                return err_set(err, r, "out of memory");
        }
        while (!failover_ended(&t->failover) && self_works(t->ctx)) {
                step(t, hosts, n_hosts);
                poll(NULL, 0, STEP_MS);
        }
        for (size_t i = 0; i < t->failover.n_items; i++)
                left += t->failover.items[i].state == FAILOVER_FAILED;
        survey_done(&s); /* the hosts' names and the groups are in it */
        t->failover.seats = NULL;
        return left > 0;
}

static void takeover_wait(struct takeover *t, int64_t ms)
{
        for (int64_t until = clock_ms() + ms; clock_ms() < until && self_works(t->ctx);)
                poll(NULL, 0, 100);
}

static void takeover_main(void *arg)
{
        struct takeover *t = arg;
        struct context *ctx = t->ctx;
        struct err e = {0};
        char id[PEER_ID_LEN];
        int r;

        peer_id(t->dead, id);
        while ((r = takeover_work(t, &e)) != 0 && self_works(ctx)) {
                if (r < 0)
                        log_warn("host %u: takeover: %s; trying again", t->dead, err_text(&e));
                takeover_wait(t, r < 0 ? 1000 : TAKEOVER_AGAIN_MS);
        }
        if (r == 0 && self_works(ctx)) {
                if (record_change(ctx->store, RECORD_HOST, id, edit_done, t, &e) < 0)
                        log_warn("host %u: end of its takeover not recorded: %s", t->dead, err_text(&e));
                log_info("host %u: takeover of %zu instances ended after %lld ms", t->dead,
                         t->failover.n_items, (long long)(clock_ms() - t->begun_ms));
        }
        pthread_mutex_lock(&ctx->ring->lock);
        for (size_t i = 0; i < ctx->ring->n_takeovers; i++)
                if (ctx->ring->takeovers[i] == t->dead)
                        ctx->ring->takeovers[i] = ctx->ring->takeovers[--ctx->ring->n_takeovers];
        pthread_mutex_unlock(&ctx->ring->lock);
        free(t->items);
        free(t->told);
        free(t);
}

void takeover_start(struct context *ctx, unsigned dead)
{
        struct takeover *t = calloc(1, sizeof(*t));
        bool running = !t;
        unsigned *more;

        pthread_mutex_lock(&ctx->ring->lock);
        for (size_t i = 0; i < ctx->ring->n_takeovers; i++)
                running |= ctx->ring->takeovers[i] == dead;
        more = running ? NULL : realloc(ctx->ring->takeovers, (ctx->ring->n_takeovers + 1) * sizeof(*more));
        if (more) {
                ctx->ring->takeovers = more;
                ctx->ring->takeovers[ctx->ring->n_takeovers++] = dead;
        }
        pthread_mutex_unlock(&ctx->ring->lock);
        if (!more) { /* at work already, or no memory: the watch thread asks again */
                free(t);
                return;
        }
        *t = (struct takeover){.ctx = ctx, .dead = dead, .begun_ms = clock_ms()};
        if (task_spawn(ctx->tasks, takeover_main, t) < 0)
                takeover_main(t); /* no thread to be had: do it here */
}
