/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/* Milliseconds and nanoseconds of CLOCK_MONOTONIC: for every duration and deadline. */
int64_t clock_ms(void);
int64_t clock_ns(void);

/* The wall clock as "2026-01-31T12:00:00.000Z": for people and records only, never for a decision. */
#define CLOCK_STAMP_LEN 24
const char *clock_stamp(char ret[CLOCK_STAMP_LEN + 1]);
const char *clock_stamp_ago(int64_t ms, char ret[CLOCK_STAMP_LEN + 1]); /* what it was ms ago */
