/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <time.h>

#include "common/err.h"

struct cli;

/* The server's stamp in local time, "2026-01-31 12:00:00"; "-" where it is none. Returns buf. */
#define WHEN_LEN 24
const char *when_text(const char *stamp, char buf[WHEN_LEN]);

/*
 * The begin of a time that a person gives, "90s", "30m", "2h", "7d" before now, or "2026-01-31",
 * "2026-01-31T12:00" or "...:00" in local time, as the server writes stamps. -EINVAL with err set.
 */
int since_parse(const char *text, time_t now, char ret[WHEN_LEN + 8], struct err *err);

/* Everything that is known about one instance's past: its receipts one by one, then its events. */
int history_print(struct cli *cli, const json_t *instance, const json_t *hosts, struct err *err);
