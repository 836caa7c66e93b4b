/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/err.h"
#include "hostd/context.h"

/* One hostd: connected, joined and listening when it returns. */
int hostd_new(const struct config *config, struct context **ret, struct err *err);
/* Until SIGTERM or SIGINT: 0. 1: a newer hostd of this machine has joined; the caller ends the process at
 * once. -EEXIST: another machine has joined with this host's number. */
int hostd_run(struct context *ctx, struct err *err);
/* Waits for every thread. Returns NULL; takes a half-built one, too. */
struct context *hostd_free(struct context *ctx);
