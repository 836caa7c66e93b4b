/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/log.h"
#include "hostd/peers.h"
#include "hostd/ring/internal.h"
#include "hostd/self.h"
#include "hostd/survey.h"
#include "hostd/tasks.h"
#include "migrate/lift.h"

/*
 * Takes clients that earlier fences shut out off the storage's list once they are dead: migrate/lift.h says
 * when, and who. Proof is an answer of the host that ran them, about its processes as they are then; it is
 * asked after the fence, and a process that is gone does not come back, so nothing has to be kept anywhere.
 * What cannot be asked (a host that is away for good, or another machine in its place) stays on the list.
 *
 * A round on a thread of its own every ten minutes; nothing waits for it.
 */
#define ASK_MS 2000

/* Whose death is proved, and since when this hostd knows; a new hostd asks again. */
struct lift_proof {
        char address[64];
        int64_t since_ms;
        bool seen; /* in this round */
};

struct round {
        struct context *ctx;
        struct survey s;
        struct ring_host *ring;
        unsigned silent; /* a host that did not answer is asked nothing else in this round */
        const char *instance;
        unsigned owner;
        struct fenced_client *mine; /* of that instance, and this host's to lift */
        size_t n_mine;
};

/* Is a QEMU of that start here? A process that cannot be told from it counts as that start. */
static int start_is_here(struct context *ctx, const char *instance, const char *start, bool *ret,
                         struct err *err)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        struct virt_domain d;
        size_t n = 0;
        int r = virt_processes(ctx->virt, &list, &n, err);

        if (r < 0)
                return r;
        *ret = r > 0;
        for (size_t i = 0; i < n; i++) {
                if (!streq(list[i].lease.instance, instance))
                        continue;
                r = virt_find(ctx->virt, instance, &d, err);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (r == -ENOENT || d.pid != list[i].pid || !d.lease.start.id[0] ||
                    streq(d.lease.start.id, start))
                        *ret = true;
        }
        return 0;
}

int lift_answer(struct context *ctx, const char *instance, const char *start, json_t **ret, struct err *err)
{
        struct machine self;
        bool here;
        int r = start_is_here(ctx, instance, start, &here, err);

        if (r < 0)
                return r;
        machine_self(&self);
        *ret = json_pack("{s:i,s:s,s:s,s:s,s:b}", "host", (int)ctx->number, "boot", self.boot, "view",
                         self.view, "board", self.board, "here", (int)here);
        return *ret ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* 1: it is dead; 0: it is not, or nobody can say. */
static int ask(struct round *q, const struct fenced_client *c, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *host = NULL, *body = NULL, *reply = NULL;
        struct http_client *http = NULL;
        struct machine answer = {0};
        int r = peer_record(q->ctx, c->host, &host, err);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (!streq(json_get_str(host, "state", ""), host_state_name(HOST_UP)))
                return 0;
        body = json_pack("{s:s,s:s}", "instance", q->instance, "start", c->start);
        r = http_client_new(json_get_str(host, "api", ""), q->ctx->config->token, ASK_MS, &http, err);
        if (r < 0)
                return r;
        r = http_call(http, "POST", "/v1/ended", body, &reply, NULL, err);
        http_client_free(http);
        if (r < 0)
                return r;
        snprintf(answer.boot, sizeof(answer.boot), "%s", json_get_str(reply, "boot", ""));
        snprintf(answer.view, sizeof(answer.view), "%s", json_get_str(reply, "view", ""));
        snprintf(answer.board, sizeof(answer.board), "%s", json_get_str(reply, "board", ""));
        return json_get_int(reply, "host", 0) == c->host &&
               lift_proved(&c->ran_on, &answer, json_get_bool(reply, "here", true));
}

static struct lift_proof *proof_of(struct context *ctx, const char *address)
{
        for (size_t i = 0; i < ctx->ring->n_lift_proofs; i++)
                if (streq(ctx->ring->lift_proofs[i].address, address))
                        return &ctx->ring->lift_proofs[i];
        return NULL;
}

static void proof_add(struct context *ctx, const char *address)
{
        struct lift_proof *more =
            reallocarray(ctx->ring->lift_proofs, ctx->ring->n_lift_proofs + 1, sizeof(*more));

        if (!more) /* asked again in the next round */
                return;
        ctx->ring->lift_proofs = more;
        more[ctx->ring->n_lift_proofs] = (struct lift_proof){.since_ms = clock_ms(), .seen = true};
        snprintf(more[ctx->ring->n_lift_proofs++].address, sizeof(more[0].address), "%s", address);
}

static int lift(struct round *q, const struct fenced_client *c)
{
        struct err e = {0};
        int r = lease_lift(q->ctx->store, q->instance, c, &e);

        if (r == 0)
                log_info(
                    "instance %s: client %s of epoch %llu on host %u is dead: no longer on the blocklist",
                    q->instance, c->address, (unsigned long long)c->epoch, c->host);
        else if (r != -EPERM || !q->ctx->ring->lift_refused) /* a right that nobody gave: said once */
                log_warn("instance %s: client %s stays on the blocklist: %s", q->instance, c->address,
                         err_text(&e));
        q->ctx->ring->lift_refused = r == -EPERM;
        return r;
}

static int consider(struct round *q, const struct fenced_client *c)
{
        struct lift_proof *p = proof_of(q->ctx, c->address);
        struct err e = {0};
        int r;

        if (p) {
                p->seen = true;
                return lift_due(p->since_ms, clock_ms()) ? lift(q, c) : 0;
        }
        if (c->host == q->silent)
                return 0;
        r = ask(q, c, &e);
        if (r > 0)
                proof_add(q->ctx, c->address);
        else if (r < 0) {
                q->silent = c->host;
                log_debug("instance %s: client %s of host %u: %s", q->instance, c->address, c->host,
                          err_text(&e));
        }
        return 0;
}

static int note(void *arg, const struct fenced_client *c)
{
        struct round *q = arg;
        struct fenced_client *more;

        if (lift_by(q->ring, q->s.n_hosts, q->owner, c->host) != q->ctx->number)
                return 0;
        more = reallocarray(q->mine, q->n_mine + 1, sizeof(*more));
        if (!more)
                return -ENOMEM;
        q->mine = more;
        more[q->n_mine++] = *c;
        return 0;
}

/* -EOPNOTSUPP: no engine for it; -EPERM: nothing can be lifted. */
static int look_at_instance(struct round *q, const struct survey_instance *in)
{
        const unsigned me = q->ctx->number;
        struct err e = {0};
        int r;

        q->instance = in->id;
        q->owner = in->lease.host;
        q->n_mine = 0;
        if (q->owner != me && lift_by(q->ring, q->s.n_hosts, q->owner, q->owner) != me)
                return 0;
        r = lease_fenced(q->ctx->store, in->id, note, q, &e);
        for (size_t i = 0; i < q->n_mine && r == 0 && !q->ctx->self->quit; i++)
                r = consider(q, &q->mine[i]);
        return r;
}

static void round_run(struct round *q)
{
        struct context *ctx = q->ctx;
        size_t kept = 0;
        int r = 0;

        for (size_t i = 0; i < ctx->ring->n_lift_proofs; i++)
                ctx->ring->lift_proofs[i].seen = false;
        for (size_t i = 0; i < q->s.n_instances && !ctx->self->quit && r != -EOPNOTSUPP && r != -EPERM; i++)
                r = look_at_instance(q, &q->s.instances[i]);
        for (size_t i = 0; i < ctx->ring->n_lift_proofs; i++) /* lifted, or another host's by now */
                if (ctx->ring->lift_proofs[i].seen || r == -EPERM)
                        ctx->ring->lift_proofs[kept++] = ctx->ring->lift_proofs[i];
        ctx->ring->n_lift_proofs = kept;
}

static void lift_main(void *arg)
{
        struct round q = {.ctx = arg};
        struct err e = {0};

        if (survey_all(q.ctx->store, &q.s, &e) < 0)
                log_debug("fenced clients not looked at: %s", err_text(&e));
        else if (survey_ring(&q.s, &q.ring) == 0)
                round_run(&q);
        survey_done(&q.s);
        free(q.ring);
        free(q.mine);
        q.ctx->ring->lifting = false;
}

void lift_start(struct context *ctx)
{
        if (ctx->ring->lifting || !lift_round_due(ctx->ring->lift_ms, clock_ms()))
                return;
        ctx->ring->lift_ms = clock_ms();
        ctx->ring->lifting = true;
        if (task_spawn(ctx->tasks, lift_main, ctx) < 0)
                ctx->ring->lifting = false;
}

void lift_later(struct context *ctx)
{
        ctx->ring->lift_ms = clock_ms();
}
