/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/backoff.h"

#include "common/util.h"
#include "migrate/health.h"
#include "migrate/instance.h"

void backoff_failed(struct backoff *b, int64_t now_ms)
{
        if (b->started_ms && now_ms - b->started_ms > HEALTH_RUN_LONG_ENOUGH_MS)
                b->failures = 0;
        b->retry_ms = now_ms + health_restart_pause_ms(++b->failures);
}

void backoff_start_failed(struct backoff *b, bool hopeless, int64_t now_ms)
{
        backoff_failed(b, now_ms);
        b->failed_starts += hopeless ? STARTS_HERE : 1;
}

void backoff_started(struct backoff *b, int64_t now_ms)
{
        b->started_ms = now_ms;
        b->failed_starts = 0;
}

void backoff_off(struct backoff *b)
{
        b->failures = 0;
        b->retry_ms = 0;
}

void backoff_handed_on(struct backoff *b)
{
        b->failed_starts = 0;
}

void backoff_pause(struct backoff *b, int64_t pause_ms, int64_t now_ms)
{
        b->retry_ms = MAX_OF(b->retry_ms, now_ms + pause_ms);
}
