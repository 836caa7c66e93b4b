/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/ring/internal.h"
#include "hostd/self.h"
#include "migrate/isolation.h"
#include "migrate/watch.h"

static void *beat_main(void *arg)
{
        struct context *ctx = arg;
        uint64_t counter = random_u64() >> 1; /* differs from whatever an earlier run left */
        bool failing = false;
        int64_t next = clock_ms();

        /* The counter of a number that another machine has now says that this machine lives, and no other.
         */
        while (!ctx->ring->beat_quit && !ctx->self->replaced) {
                struct err e = {0};
                int64_t begun = clock_ms(), pause;

                if (beat_write(ctx->pulse, ctx->number, counter++, &e) == 0) {
                        ctx->self->steady_ms =
                            isolation_steady(ctx->self->steady_ms, ctx->self->own_write_ms, begun);
                        ctx->self->own_write_ms = begun;
                        if (failing)
                                log_info("host %s: heartbeats reach the storage again", ctx->config->name);
                        failing = false;
                } else if (!failing) {
                        log_error("host %s: heartbeat not written, starting nothing: %s", ctx->config->name,
                                  err_text(&e));
                        failing = true;
                }
                next += WATCH_BEAT_MS;
                pause = next - clock_ms();
                if (pause < 0)
                        next = clock_ms();
                else
                        poll(NULL, 0, (int)pause);
        }
        return NULL;
}

int beat_start(struct context *ctx, struct err *err)
{
        int r;

        /* The first heartbeat goes out before anything else is done. */
        r = beat_write(ctx->pulse, ctx->number, random_u64() >> 1, err);
        if (r < 0)
                return err_wrap(err, r, "first heartbeat");
        ctx->self->own_write_ms = ctx->self->steady_ms = clock_ms();
        r = -pthread_create(&ctx->ring->beat_thread, NULL, beat_main, ctx);
        if (r < 0)
                return err_set(err, r, "cannot start a thread: %s", strerror(-r));
        ctx->ring->beat_running = true;
        return 0;
}

bool beat_running(const struct context *ctx)
{
        return ctx->ring->beat_running;
}
