/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Numbers as people say them, into the caller's buffer of at least HUMAN_LEN bytes; each returns buf. */
#define HUMAN_LEN 40

/* "just now", "3 min ago", "2 days ago" for an RFC 3339 stamp in UTC; "-" where it is none. */
const char *human_age(const char *stamp, time_t now, char buf[HUMAN_LEN]);
/* "in 4 s"; of a time that has passed, or is none: "at any moment". */
const char *human_until(const char *stamp, time_t now, char buf[HUMAN_LEN]);

/* A length of time: "850 ms", "12.4 s", "3:07", "1:02:33"; "unknown" where it is negative. */
const char *human_duration(int64_t ms, char buf[HUMAN_LEN]);

/* Seconds since 1970 of "2026-01-31T12:00:00Z", with or without a fraction; -1 where it is none. */
time_t human_stamp_parse(const char *stamp);
