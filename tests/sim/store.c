/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/storage.h"

/* The engine: opened by every hostd as its store. */

static void sim_close(struct store *s)
{
}

static void apply_nothing(struct op *op)
{
}

static int sim_selftest(struct store *s, struct err *err)
{
        struct op *op = op_new(s, apply_nothing, NULL);
        int r = op_call(s, &op, err);

        op_unref(op);
        if (r < 0)
                return r;
        if (W.broken == BREAK_TAKEOVER)
                err_set(err, 0, "switched off");
        return W.broken != BREAK_TAKEOVER;
}

static void apply_room(struct op *op)
{
        op->result = !W.full ? STORE_ROOM : W.kind == FENCE_RBD ? STORE_FULL_WAITS : STORE_FULL;
}

static int sim_room(struct store *s, struct err *err)
{
        struct op *op = op_new(s, apply_room, NULL);
        int r = op_call(s, &op, err);

        op_unref(op);
        return r;
}

static int sim_secret(struct store *s, char **ret_key, struct err *err)
{
        *ret_key = strdup("a key");
        return 0;
}

#define ENGINE(kind)                                                                                        \
        {                                                                                                   \
                .name = kind, .prefix = "sim:", .close = sim_close, .room = sim_room,                       \
                .selftest = sim_selftest, .secret = sim_secret, .records = &sim_records,                    \
                .leases = &sim_leases, .starts = &sim_starts, .lifts = &sim_lifts                           \
        }
static const struct engine engines[FENCE_KIND_MAX] = {
    [FENCE_NFS] = ENGINE("nfs"), [FENCE_DIR] = ENGINE("dir"), [FENCE_RBD] = ENGINE("rbd")};

struct store *sim_store_open(struct host *h, unsigned timeout_ms)
{
        struct store *s = calloc(1, sizeof(*s));

        assert(s);
        s->engine = &engines[W.kind];
        s->url = strdup("sim:");
        s->place = strdup("");
        s->state = h;
        s->options.timeout_ms = timeout_ms ? timeout_ms : 5000;
        assert(s->url && s->place);
        return s;
}

int __wrap_store_open(const char *url, const struct store_options *options, struct store **ret,
                      struct err *err);
int __real_store_open(const char *url, const struct store_options *options, struct store **ret,
                      struct err *err);

void store_reset(void)
{
        sim_lists_reset();
        W.store = store_close(W.store);
        if (__real_store_open("mem:", NULL, &W.store, NULL) < 0)
                abort();
}

int __wrap_store_open(const char *url, const struct store_options *options, struct store **ret,
                      struct err *err)
{
        *ret = sim_store_open(host_current(), options->timeout_ms);
        return 0;
}
