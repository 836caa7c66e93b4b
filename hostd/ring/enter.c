/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/peers.h"
#include "hostd/record.h"
#include "hostd/ring/internal.h"
#include "migrate/identity.h"

/* Before anything else: which number is this host's, and does another machine live with it? */

#define ENTER_MAX_MS                                                                                        \
        20000 /* a heartbeat that cannot be read for so long: hostd ends, and is started again */

struct machine machine_of_record(const json_t *doc)
{
        struct machine m = {0};

        snprintf(m.boot, sizeof(m.boot), "%s", json_get_str(doc, "boot_id", ""));
        snprintf(m.view, sizeof(m.view), "%s", json_get_str(doc, "view", ""));
        snprintf(m.board, sizeof(m.board), "%s", json_get_str(doc, "board", ""));
        return m;
}

/* A record under that number, where there is none. */
static int host_make_record(struct context *ctx, unsigned number, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        uint64_t version;
        char id[PEER_ID_LEN];

        peer_id(number, id);
        text = str_printf("{\"id\":\"%s\",\"number\":%u,\"name\":\"%s\",\"epoch\":0,\"state\":\"stopped\","
                          "\"drained\":false}",
                          id, number, ctx->config->name);
        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        return record_put(ctx->store, RECORD_HOST, id, 0, text, &version, err);
}

/* The number of this name, or the lowest that no host has; another that takes it at the same time wins by
 * compare-and-swap. */
static int host_take_number(struct context *ctx, struct err *err)
{
        for (unsigned number = 1; number < 65536; number++) {
                _cleanup_(json_decrefpp) json_t *doc = NULL;
                char id[PEER_ID_LEN];
                int r;

                peer_id(number, id);
                r = record_load(ctx->store, RECORD_HOST, id, &doc, NULL, err);
                if (r == 0 && !streq(json_get_str(doc, "name", ""), ctx->config->name))
                        continue;
                if (r == -ENOENT)
                        r = host_make_record(ctx, number, err);
                if (r == 0)
                        ctx->number = number;
                if (r != -ESTALE)
                        return r;
                number--; /* somebody took it: look who */
        }
        return err_set(err, -ENOSPC, "all host numbers up to 65535 are taken");
}

static int refuse(const struct context *ctx, const json_t *doc, enum identity_action action, struct err *err)
{
        const char *name = json_get_str(doc, "name", "?"), *address = json_get_str(doc, "address", "?");

        if (action == IDENTITY_REFUSE_NAME)
                return err_set(err, -EEXIST,
                               "host number %u belongs to host %s already: give %s another in [host] number",
                               ctx->number, name, ctx->config->name);
        return err_set(err, -EBUSY,
                       "two machines are host %s, number %u: the one at %s has joined and its heartbeat "
                       "moves, and this one at %s has the same name: give this one another [host] name and "
                       "number, or stop hostd on the other",
                       name, ctx->number, address, ctx->config->address);
}

/* One look at the record, and at the other machine's heartbeat where there is one. */
static int enter_look(struct context *ctx, struct watch *w, enum identity_action *ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;
        struct ring_identity *self = ctx->ring->identity;
        struct identity_view v = {.me = &self->self, .name = ctx->config->name};
        int64_t asked = clock_ms();
        char id[PEER_ID_LEN];
        int r;

        peer_id(ctx->number, id);
        r = record_load(ctx->store, RECORD_HOST, id, &doc, NULL, err);
        if (r < 0)
                return r;
        self->epoch = (uint64_t)json_get_int(doc, "epoch", 0);
        snprintf(self->nonce, sizeof(self->nonce), "%s", json_get_str(doc, "nonce", ""));
        v.machine = machine_of_record(doc);
        v.record_name = json_get_str(doc, "name", "");
        v.joined = self->nonce[0] != '\0';
        self->beating = v.joined && identity_same(&v.machine, &self->self);
        if (v.joined && !self->beating) {
                r = beat_read(ctx->pulse, ctx->number, &self->counter, NULL);
                self->counted = r == 0;
                watch_look(w, 0, r == 0 || r == -ENOENT, r == 0 ? self->counter : 0, asked, clock_ms());
                v.alive = watch_alive(w);
                v.still_ms = w->asked_ms - w->changed_ms;
        }
        *ret = identity_decide(&v);
        if (*ret == IDENTITY_REFUSE_NAME || *ret == IDENTITY_REFUSE_ALIVE)
                return refuse(ctx, doc, *ret, err);
        ctx->ring->home.returning = !self->beating || json_get_bool(doc, "returning", false);
        return 0;
}

int ring_enter(struct context *ctx, struct err *err)
{
        int64_t until = clock_ms() + ENTER_MAX_MS;
        enum identity_action action = IDENTITY_WAIT;
        struct watch w = {0};
        bool told = false;
        int r;

        machine_self(&ctx->ring->identity->self);
        r = ctx->number ? host_make_record(ctx, ctx->number, err) : host_take_number(ctx, err);
        if (r < 0 && r != -ESTALE) /* there is one */
                return err_wrap(err, r, "joining");
        while ((r = enter_look(ctx, &w, &action, err)) == 0 && action == IDENTITY_WAIT) {
                if (!told)
                        log_info("host %s: another machine, or another start of this one, was number %u: "
                                 "watching its heartbeat for %d ms",
                                 ctx->config->name, ctx->number, IDENTITY_WATCH_MS);
                told = true;
                if (clock_ms() >= until)
                        return err_set(
                            err, -ETIMEDOUT,
                            "joining as host %u: its heartbeat could not be watched for %d ms, so "
                            "whether another machine lives with that number is not known: is the "
                            "storage well?",
                            ctx->number, IDENTITY_WATCH_MS);
                poll(NULL, 0, WATCH_LOOK_MS);
        }
        if (r < 0)
                return err_wrap(err, r, "joining as host %u", ctx->number);
        /* A host that is known shows life before it does anything else: an upgrade is no death. */
        return action == IDENTITY_BEAT ? beat_start(ctx, err) : 0;
}
