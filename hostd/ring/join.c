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
#include "hostd/ring/ring.h"
#include "hostd/self.h"
#include "migrate/watch.h"

#define DISARMED_MS 60000 /* after an orderly stop: time for an upgrade before neighbours act */

/* What a join writes; members that others own (drained) stay. */
static int edit_join(json_t *doc, void *arg, struct err *err)
{
        struct context *ctx = arg;
        const struct config *c = ctx->config;
        _cleanup_(freep) char *api = str_printf("http://%s", c->listen), *boot = NULL;
        uint64_t epoch = (uint64_t)json_get_int(doc, "epoch", 0) + 1;
        json_t *fresh;

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
        if (file_read("/proc/sys/kernel/random/boot_id", 64, &boot, NULL, NULL) ==
            0) /* tells machines apart */
                json_object_set_new(doc, "boot_id", json_stringn(boot, strcspn(boot, "\n")));
        json_object_del(doc, "taken");
        ctx->self->epoch = epoch;
        return 1;
}

/* The lowest number that no host has; another that takes it at the same time wins by compare-and-swap. */
static int host_take_number(struct context *ctx, struct err *err)
{
        for (unsigned number = 1; number < 65536; number++) {
                _cleanup_(json_decrefpp) json_t *doc = NULL;
                _cleanup_(freep) char *text = NULL;
                uint64_t version;
                char id[PEER_ID_LEN];
                int r;

                peer_id(number, id);
                r = record_load(ctx->store, RECORD_HOST, id, &doc, &version, err);
                if (r == 0 && streq(json_get_str(doc, "name", ""), ctx->config->name)) {
                        ctx->number = number;
                        return 0;
                }
                if (r == 0)
                        continue;
                if (r != -ENOENT)
                        return r;
                text = str_printf("{\"id\":\"%s\",\"number\":%u,\"name\":\"%s\",\"epoch\":0,\"state\":"
                                  "\"stopped\",\"drained\":false}",
                                  id, number, ctx->config->name);
                r = text ? record_put(ctx->store, RECORD_HOST, id, 0, text, &version, err) : -ENOMEM;
                if (r == 0)
                        ctx->number = number;
                if (r != -ESTALE)
                        return r;
                number--; /* somebody took it: look who */
        }
        return err_set(err, -ENOSPC, "all host numbers up to 65535 are taken");
}

static int host_make_record(struct context *ctx, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        uint64_t version;
        char id[PEER_ID_LEN];
        int r;

        peer_id(ctx->number, id);
        text = str_printf("{\"id\":\"%s\",\"number\":%u,\"name\":\"%s\",\"epoch\":0,\"state\":\"stopped\","
                          "\"drained\":false}",
                          id, ctx->number, ctx->config->name);
        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        r = record_put(ctx->store, RECORD_HOST, id, 0, text, &version, err);
        return r == -ESTALE ? 0 : r; /* there is one */
}

int ring_join(struct context *ctx, bool first, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *before = NULL;
        const char *state;
        char id[PEER_ID_LEN];
        int r;

        if (first) { /* a number from the configuration is in use by the heartbeat already */
                r = ctx->number ? host_make_record(ctx, err) : host_take_number(ctx, err);
                if (r < 0)
                        return err_wrap(err, r, "joining");
        }
        peer_id(ctx->number, id);
        r = record_load(ctx->store, RECORD_HOST, id, &before, NULL, err);
        if (r == 0 && !streq(json_get_str(before, "name", ""), ctx->config->name))
                return err_set(err, -EEXIST,
                               "host number %u belongs to host %s already: give %s another in [host] number",
                               ctx->number, json_get_str(before, "name", "?"), ctx->config->name);
        if (r == 0)
                r = record_change(ctx->store, RECORD_HOST, id, edit_join, ctx, err);
        if (r < 0)
                return err_wrap(err, r, "joining as host %u", ctx->number);
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
        json_object_set_new(doc, "disarmed_ms", json_integer(DISARMED_MS));
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
