/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/plug/plug.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/events.h"
#include "hostd/plug/internal.h"
#include "hostd/self.h"
#include "hostd/survey.h"
#include "hostd/tasks.h"

int plug_new(struct plug **ret)
{
        struct plug *p = calloc(1, sizeof(*p));

        if (!p)
                return -ENOMEM;
        pthread_mutex_init(&p->lock, NULL);
        *ret = p;
        return 0;
}

void plug_end(struct plug *p)
{
        if (p->running)
                pthread_join(p->thread, NULL);
        p->running = false;
}

struct plug *plug_free(struct plug *p)
{
        if (!p)
                return NULL;
        plug_end(p);
        announce_drop(p);
        pthread_mutex_destroy(&p->lock);
        free(p);
        return NULL;
}

void plug_tap(const char *instance, char ret[TAP_NAME_LEN])
{
        snprintf(ret, TAP_NAME_LEN, "wh%.8s%.4s", instance, instance + 9);
}

void plug_hosts(struct context *ctx, const struct survey *s)
{
        _cleanup_(freep) struct ring_host *ring = NULL;
        struct plug *p = ctx->plug;
        struct peer fresh[ISOLATION_PEERS] = {0};
        size_t picked[ISOLATION_PEERS], n;

        if (survey_ring(s, &ring) < 0)
                return;
        n = isolation_peers(ring, s->n_hosts, ctx->number, picked, ISOLATION_PEERS);
        pthread_mutex_lock(&p->lock);
        for (size_t i = 0; i < n; i++) {
                const struct survey_host *h = &s->hosts[picked[i]];

                for (size_t k = 0; k < p->n_peers; k++)
                        if (p->peers[k].number == h->ring.number)
                                fresh[i] = p->peers[k];
                fresh[i].number = h->ring.number;
                fresh[i].view.up = h->ring.state == HOST_UP;
                snprintf(fresh[i].api, sizeof(fresh[i].api), "%.127s", h->api);
        }
        memcpy(p->peers, fresh, sizeof(fresh));
        p->n_peers = n;
        pthread_mutex_unlock(&p->lock);
}

/* --- the questions --- */

struct question {
        struct context *ctx;
        unsigned number;
        char api[PEER_URL_LEN];
};

/* On a task of its own: a peer that does not answer keeps nobody waiting. */
static void question_run(void *arg)
{
        struct question *q = arg;
        struct plug *p = q->ctx->plug;
        _cleanup_(json_decrefpp) json_t *answer = NULL;
        struct http_client *c = NULL;
        int64_t asked = clock_ms(), ended, age = -1, steady = -1;
        int r;

        r = http_client_new(q->api, NULL, ISOLATION_WAIT_MS, &c, NULL);
        if (r == 0)
                r = http_call(c, "GET", "/healthz", NULL, &answer, NULL, NULL);
        http_client_free(c);
        ended = clock_ms();
        if (r == 0) {
                age = json_get_int(answer, "beat_ms", -1);
                steady = json_get_int(answer, "steady_ms", asked); /* a hostd from before says nothing */
        }
        pthread_mutex_lock(&p->lock);
        for (size_t i = 0; i < p->n_peers; i++) {
                struct peer *peer = &p->peers[i];

                if (peer->number != q->number)
                        continue;
                peer->asking = false;
                if (r == 0)
                        peer->first_ms = peer->view.silent_ms = 0;
                else if (peer->first_ms)
                        peer->view.silent_ms = ended - peer->first_ms;
                if (age >= 0 && peer->view.wrote_ms < asked - age) {
                        peer->view.wrote_ms = asked - age;
                        peer->view.steady_ms = MAX_OF(asked - steady, 0);
                }
        }
        pthread_mutex_unlock(&p->lock);
        free(q);
}

/* With the lock held. */
static void ask(struct context *ctx, struct peer *peer)
{
        struct question *q = malloc(sizeof(*q));

        if (!q)
                return;
        *q = (struct question){.ctx = ctx, .number = peer->number};
        memcpy(q->api, peer->api, sizeof(q->api));
        peer->asking = true;
        peer->asked_ms = clock_ms();
        if (!peer->first_ms)
                peer->first_ms = peer->asked_ms;
        if (task_spawn(ctx->tasks, question_run, q) < 0) {
                peer->asking = false;
                free(q);
        }
}

static bool look_at_peers(struct context *ctx)
{
        struct plug *p = ctx->plug;
        struct isolation_peer views[ISOLATION_PEERS];
        int64_t own_write = ctx->self->own_write_ms, now = clock_ms();
        size_t n;

        pthread_mutex_lock(&p->lock);
        n = p->n_peers;
        for (size_t i = 0; i < n; i++) {
                struct peer *peer = &p->peers[i];

                /* While this host stood still, or had no reason to ask, nobody was silent. */
                if (!isolation_asks(own_write, now) || now - p->looked_ms > WATCH_GAP_MS)
                        peer->first_ms = peer->view.silent_ms = 0;
                if (isolation_asks(own_write, now) && !peer->asking &&
                    now - peer->asked_ms >= ISOLATION_EVERY_MS)
                        ask(ctx, peer);
                views[i] = peer->view;
        }
        pthread_mutex_unlock(&p->lock);
        p->looked_ms = now;
        return isolation_shut(views, n, own_write, now);
}

/* --- shut and open --- */

static void shut_one(void *arg, const char *tap)
{
        struct err e = {0};

        (void)arg;
        if (tap_set(tap, false, &e) < 0)
                log_error("%s: a guest that may be another host's can still be reached", err_text(&e));
}

void plug_shut(struct context *ctx, const char *instance)
{
        char tap[TAP_NAME_LEN];

        plug_tap(instance, tap);
        plug_quiet(ctx, instance);
        tap_set(tap, false, NULL);
}

void plug_look(struct context *ctx, const struct instance_view *v, const char *instance)
{
        char tap[TAP_NAME_LEN];
        struct err e = {0};
        int r;

        if (!isolation_opens(v))
                return;
        plug_tap(instance, tap);
        r = tap_set(tap, true, &e);
        if (r > 0)
                log_info("instance %s: can be reached again: it is still this host's", instance);
        else if (r < 0 && r != -ENODEV) /* a guest without a network has no tap */
                log_warn("instance %s: cannot be reached: %s", instance, err_text(&e));
}

/* Each round again: what arrives meanwhile has a tap that is up. */
static void shut_all(struct context *ctx)
{
        struct plug *p = ctx->plug;
        struct err e = {0};

        if (tap_each(ctx->config->bridge, shut_one, ctx, &e) < 0 && !p->shut)
                log_error("%s", err_text(&e));
        if (p->shut)
                return;
        p->shut = true;
        log_error(
            "host %s: no heartbeat has reached the storage for %lld ms, and others may act: its guests "
            "are cut off the network until their disks are seen to be this host's",
            ctx->config->name, (long long)(clock_ms() - ctx->self->own_write_ms));
        event_add(ctx, "host-isolated", NULL, NULL,
                  "host %s lost the storage while others may act: its guests were cut off the network",
                  ctx->config->name);
}

static void look_at_uplink(struct context *ctx)
{
        unsigned ports = 0, carriers = 0;
        struct err e = {0};
        enum uplink now;

        if (tap_uplinks(ctx->config->bridge, &ports, &carriers, &e) < 0)
                return; /* no bridge: its guests' start says so */
        now = uplink_look(&ctx->plug->uplink, ports, carriers, clock_ms());
        if (now == (enum uplink)ctx->self->uplink)
                return;
        log_warn("host %s: the uplink of bridge %s %s", ctx->config->name, ctx->config->bridge,
                 now == UPLINK_GOOD   ? "works"
                 : now == UPLINK_DEAD ? "has no carrier"
                                      : "has had no carrier for long: its guests go where there is one");
        ctx->self->uplink = now;
        ctx->self->rescan = true; /* tells it on the storage, and looks at the guests */
}

static void plug_round(struct context *ctx)
{
        struct plug *p = ctx->plug;
        int64_t write = ctx->self->own_write_ms;

        if (look_at_peers(ctx))
                shut_all(ctx);
        else if (self_trusted(ctx))
                p->shut = false;
        /* Others may have acted: every guest is looked at now. */
        if (p->last_write && write - p->last_write >= WATCH_DEAD_MS)
                ctx->self->rescan = true;
        p->last_write = write;
        look_at_uplink(ctx);
        announce_due(ctx);
}

static void *plug_main(void *arg)
{
        struct context *ctx = arg;

        while (!ctx->self->quit) {
                plug_round(ctx);
                poll(NULL, 0, ISOLATION_EVERY_MS);
        }
        return NULL;
}

int plug_start(struct context *ctx, struct err *err)
{
        int r = -pthread_create(&ctx->plug->thread, NULL, plug_main, ctx);

        if (r < 0)
                return err_set(err, r, "cannot start a thread: %s", strerror(-r));
        ctx->plug->running = true;
        return 0;
}
