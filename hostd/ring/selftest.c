/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "hostd/events.h"
#include "hostd/peers.h"
#include "hostd/record.h"
#include "hostd/ring/internal.h"
#include "hostd/self.h"

struct verdict {
        const char *nonce;
        bool ok;
        const char *text;
};

static int edit_fence(json_t *doc, void *arg, struct err *err)
{
        const struct verdict *v = arg;
        char stamp[CLOCK_STAMP_LEN + 1];
        json_t *fence;

        if (!streq(json_get_str(doc, "nonce", ""), v->nonce))
                return 0; /* another hostd's record */
        fence = json_pack("{s:b,s:s,s:s}", "ok", v->ok, "text", v->text, "at", clock_stamp(stamp));

        if (!fence)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "fence", fence);
        return 1;
}

static void fence_record(struct context *ctx, bool ok, const char *text)
{
        struct verdict v = {.nonce = ctx->nonce, .ok = ok, .text = text};
        struct err e = {0};
        char id[PEER_ID_LEN];

        peer_id(ctx->number, id);
        if (record_change(ctx->store, RECORD_HOST, id, edit_fence, &v, &e) < 0)
                log_warn("host %s: the verdict on the fence is not recorded: %s", ctx->config->name,
                         err_text(&e));
}

static int finding_add(void *arg, const struct store_finding *f)
{
        json_t *j = json_pack("{s:s,s:s,s:s}", "code", f->code, "text", f->text, "advice", f->advice);

        return json_array_append_new(arg, j) < 0 ? -ENOMEM : 0;
}

int selftest_findings(struct context *ctx, json_t *list, struct err *err)
{
        return store_diagnose_host(ctx->store, finding_add, list, err);
}

static int finding_log(void *arg, const struct store_finding *f)
{
        const struct context *ctx = arg;

        log_warn("host %s: %s; what to do: %s", ctx->config->name, f->text, f->advice);
        return 0;
}

int selftest_run(struct context *ctx, char ret_text[SELFTEST_TEXT])
{
        struct err e = {0};
        int before, r;

        pthread_mutex_lock(&ctx->ring->selftest_lock);
        before = ctx->self->fence;
        r = store_selftest(ctx->store, &e);
        if (r > 0)
                snprintf(ret_text, SELFTEST_TEXT, "the store's fence holds");
        else
                snprintf(ret_text, SELFTEST_TEXT, "%s%.440s", r < 0 ? "it could not be tried: " : "",
                         err_text(&e));
        if (r >= 0)
                ctx->self->fence = r;
        if (r > 0)
                log_info("host %s: the store's fence holds", ctx->config->name);
        else if (r == 0 && before != 0)
                event_add(ctx, "fence-failed", NULL, NULL,
                          "the store's fence does not hold, so this host fails nobody over: %s", ret_text);
        else if (r < 0)
                log_warn("host %s: the store's fence: %s", ctx->config->name, ret_text);
        if (r > 0 && before == 0)
                event_add(ctx, "fence-holds", NULL, NULL, "the store's fence holds again: failover is on");
        if (r >= 0 && before < 0) /* once */
                store_diagnose_host(ctx->store, finding_log, ctx, NULL);
        if (r >= 0 || before < 0)
                fence_record(ctx, r > 0, ret_text);
        pthread_mutex_unlock(&ctx->ring->selftest_lock);
        return r;
}
