/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/self.h"

#include <errno.h>

#include "common/clock.h"
#include "common/util.h"
#include "migrate/isolation.h"

bool self_trusted(const struct context *ctx)
{
        return !ctx->self->replaced && clock_ms() - ctx->self->own_write_ms < WATCH_DEAD_MS;
}

bool self_works(const struct context *ctx)
{
        return !ctx->self->quit && !ctx->self->replaced;
}

int64_t self_no_libvirt_ms(const struct context *ctx)
{
        int64_t lost = ctx->self->virt_lost_ms;

        return ctx->self->virt_connected ? 0 : MAX_OF(lost, 1);
}

int self_can_start(const struct context *ctx, struct err *err)
{
        if (ctx->self->replaced)
                return err_set(err, -EAGAIN, "another machine has its number");
        if (!self_trusted(ctx))
                return err_set(err, -EAGAIN, "its heartbeats do not reach the storage");
        if (ctx->self->leaving)
                return err_set(err, -EAGAIN, "it goes down");
        if (!ctx->self->virt_connected)
                return err_set(err, -EAGAIN, "its libvirt does not answer");
        if (ctx->self->uplink != UPLINK_GOOD)
                return err_set(err, -EAGAIN, "the uplink of its bridge %s is dead", ctx->config->bridge);
        return 0;
}
