/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/room.h"

#include "common/clock.h"
#include "common/log.h"
#include "hostd/self.h"

enum health_room room_now(struct context *ctx)
{
        struct self *self = ctx->self;
        int_least64_t asked = self->room_ms;
        int64_t now = clock_ms();
        struct err e = {0};
        int r;

        if (asked && now - asked < ROOM_AGE_MS)
                return (enum health_room)self->room;
        if (!atomic_compare_exchange_strong(&self->room_ms, &asked, now)) /* another thread asks */
                return (enum health_room)self->room;
        r = store_room(ctx->store, &e);
        if (r < 0)
                log_debug("store %s: whether it has room is not known: %s", ctx->config->store_url,
                          err_text(&e));
        self->room = r == STORE_ROOM         ? ROOM_THERE
                     : r == STORE_FULL       ? ROOM_NONE
                     : r == STORE_FULL_WAITS ? ROOM_NONE_WAITS
                                             : ROOM_UNKNOWN;
        return (enum health_room)self->room;
}
