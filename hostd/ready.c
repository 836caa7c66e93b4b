/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/ready.h"

#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/events.h"
#include "hostd/peers.h"
#include "hostd/record.h"
#include "hostd/self.h"

struct saying {
        const char *nonce;
        const char *why; /* empty: it can start guests */
};

/* Written also where the record says so already: one that was written before without an answer, and may have said the
 * opposite, does not land after this one. */
static int edit_ready(json_t *doc, void *arg, struct err *err)
{
        const struct saying *say = arg;

        if (!streq(json_get_str(doc, "nonce", ""), say->nonce))
                return 0;
        json_object_set_new(doc, "cannot_start", say->why[0] ? json_string(say->why) : json_null());
        return 1;
}

void ready_tell(struct context *ctx)
{
        const char *why = ctx->self->virt_connected ? "" : "its libvirt does not answer";
        struct saying say = {.nonce = ctx->nonce, .why = why};
        int told = why[0] ? 2 : 1;
        struct err e = {0};
        char id[PEER_ID_LEN];

        if (ctx->self->ready_told == told)
                return;
        peer_id(ctx->number, id);
        if (record_change(ctx->store, RECORD_HOST, id, edit_ready, &say, &e) < 0) {
                log_warn("host %s: whether it can start guests is not in its record: %s", ctx->config->name,
                         err_text(&e));
                ctx->self->ready_told = 0; /* it may be there, now or later: written anew at the next scan */
                return;
        }
        if (why[0])
                event_add(ctx, "host-cannot-start", NULL, NULL, "it can start no guest: %s", why);
        else if (ctx->self->ready_told)
                event_add(ctx, "host-can-start", NULL, NULL, "it can start guests again");
        ctx->self->ready_told = told;
}
