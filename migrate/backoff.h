/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * When a guest is started again after a failure: a start that failed, or a run that ended by itself. The first
 * one after 1 s, then 2 s, 4 s ... at most 60 s; a run of more than HEALTH_RUN_LONG_ENOUGH_MS forgives what was
 * before it. Zeroed: no failure yet. Times in ms of the same clock. Pure.
 */
struct backoff {
        unsigned failures;      /* in a row */
        unsigned failed_starts; /* of these the starts, since it was last handed on */
        int64_t retry_ms;       /* no start before */
        int64_t started_ms;     /* of the last run; 0: none here */
};

/* Its run has ended by itself, or another host was looked for in vain: the next start is put off. */
void backoff_failed(struct backoff *b, int64_t now_ms);
/* hopeless: this host need not try again before another one has. */
void backoff_start_failed(struct backoff *b, bool hopeless, int64_t now_ms);
void backoff_started(struct backoff *b, int64_t now_ms);
/* It has powered off by its own wish, which is no failure: its next start is not put off. */
void backoff_off(struct backoff *b);
/* Another host has it now. */
void backoff_handed_on(struct backoff *b);
/* Puts the next start off by pause_ms, unless it is put off for longer already. */
void backoff_pause(struct backoff *b, int64_t pause_ms, int64_t now_ms);
