/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
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
#include "migrate/watch.h"

/*
 * A record changes hands by a join only, which writes another nonce. At the first join of this hostd it has
 * to be as ring_enter() found it. Where another machine had it, that machine might have slept and joined
 * again under the same nonce, which its epoch tells. A take-over meanwhile changes nothing.
 */
static bool still_ours(const struct context *ctx, const json_t *doc)
{
        const struct ring_identity *self = ctx->ring->identity;
        const char *nonce = json_get_str(doc, "nonce", "");

        if (self->joined)
                return streq(nonce, ctx->nonce);
        return streq(nonce, ctx->nonce) || /* our own change, whose answer was lost */
               (streq(nonce, self->nonce) &&
                (self->beating || (uint64_t)json_get_int(doc, "epoch", 0) == self->epoch ||
                 streq(json_get_str(doc, "state", ""), host_state_name(HOST_DEAD))));
}

static void join_machine(struct context *ctx, json_t *doc)
{
        const struct machine *m = &ctx->ring->identity->self;

        json_object_set_new(doc, "boot_id", json_string(m->boot));
        json_object_set_new(doc, "view", json_string(m->view));
        json_object_set_new(doc, "board", json_string(m->board));
        pthread_mutex_lock(&ctx->ring->lock);
        json_object_set_new(doc, "returning", json_boolean(ctx->ring->home.returning));
        pthread_mutex_unlock(&ctx->ring->lock);
}

/* What a join writes; members that others own (drained) stay. */
static int edit_join(json_t *doc, void *arg, struct err *err)
{
        struct context *ctx = arg;
        const struct config *c = ctx->config;
        _cleanup_(freep) char *api = str_printf("http://%s", c->listen);
        uint64_t epoch = (uint64_t)json_get_int(doc, "epoch", 0) + 1;
        json_t *fresh;

        if (!still_ours(ctx, doc))
                return err_set(err, -EEXIST, "another hostd, at %s, has joined with that number meanwhile",
                               json_get_str(doc, "address", "?"));
        fresh = json_pack("{s:i,s:s,s:s,s:s,s:s,s:s,s:I,s:s,s:i,s:I,s:s,s:s,s:i,s:{s:s,s:s,s:s}}", "number",
                          (int)ctx->number, "name", c->name, "address", c->address, "api", api ? api : "",
                          "peer_uri", c->peer_uri, "state", host_state_name(HOST_UP), "epoch",
                          (json_int_t)epoch, "nonce", ctx->nonce, "cpus", (int)ctx->capacity.cpus, "memory",
                          (json_int_t)ctx->capacity.memory, "cpu_model", ctx->capacity.cpu_model, "accel",
                          ctx->kvm ? "kvm" : "tcg", "disarmed_ms", 0, "versions", "hostd", WHERRY_VERSION,
                          "libvirt", ctx->capacity.libvirt, "qemu", ctx->capacity.qemu);
        if (!fresh)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_update(doc, fresh);
        json_decref(fresh);
        join_machine(ctx, doc);
        if (!ctx->ring->identity->joined)
                json_object_del(doc, "blind");
        json_object_del(doc, "taken");
        ctx->self->epoch = epoch;
        return 1;
}

/* The other machine stood still when ring_enter() looked; libvirt may have taken its time since. */
static int join_check_beat(struct context *ctx, struct err *err)
{
        const struct ring_identity *self = ctx->ring->identity;
        uint64_t counter = 0;
        int r;

        if (self->joined || self->beating || !self->counted)
                return 0;
        r = beat_read(ctx->pulse, ctx->number, &counter, err);
        if (r < 0 && r != -ENOENT)
                return r;
        return counter == self->counter
                   ? 0
                   : err_set(err, -EEXIST, "the other machine's heartbeat has moved meanwhile");
}

int ring_join(struct context *ctx, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *before = NULL;
        struct ring_identity *self = ctx->ring->identity;
        const char *state;
        char id[PEER_ID_LEN];
        int r;

        peer_id(ctx->number, id);
        r = join_check_beat(ctx, err);
        if (r == 0)
                r = record_load(ctx->store, RECORD_HOST, id, &before, NULL, err);
        if (r == 0)
                r = record_change(ctx->store, RECORD_HOST, id, edit_join, ctx, err);
        if (r < 0)
                return err_wrap(err, r, "joining as host %u", ctx->number);
        if (!self->joined) {
                pthread_mutex_lock(&ctx->ring->lock);
                ctx->ring->home.joined_ms = clock_ms();
                pthread_mutex_unlock(&ctx->ring->lock);
        }
        self->joined = true;
        state = json_get_str(before, "state", "");
        log_info("host %s: joined as number %u, epoch %llu", ctx->config->name, ctx->number,
                 (unsigned long long)ctx->self->epoch);
        if (streq(state, host_state_name(HOST_DEAD)))
                event_add(ctx, "host-returned", NULL, NULL,
                          "host %s is back: it had been fenced, host %lld had taken it over at epoch %lld",
                          ctx->config->name,
                          (long long)json_get_int(json_object_get(before, "taken"), "by", 0),
                          (long long)json_get_int(before, "epoch", 0));
        else
                event_add(ctx, "host-joined", NULL, NULL, "host %s joined", ctx->config->name);
        return 0;
}

static int edit_leave(json_t *doc, void *arg, struct err *err)
{
        struct context *ctx = arg;

        (void)err;
        if (!streq(json_get_str(doc, "nonce", ""), ctx->nonce) ||
            (uint64_t)json_get_int(doc, "epoch", 0) != ctx->self->epoch)
                return 0; /* taken over meanwhile: not ours to change */
        json_object_set_new(doc, "state", json_string(host_state_name(HOST_STOPPED)));
        json_object_set_new(doc, "disarmed_ms", json_integer(WATCH_DISARMED_MS));
        return 1;
}

void ring_leave(struct context *ctx)
{
        struct err e = {0};
        char id[PEER_ID_LEN];

        if (ctx->number == 0)
                return;
        peer_id(ctx->number, id);
        if (record_change(ctx->store, RECORD_HOST, id, edit_leave, ctx, &e) < 0)
                log_warn("host %s: orderly end not recorded, neighbours will act: %s", ctx->config->name,
                         err_text(&e));
}
