/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "common/err.h"
#include "hostd/context.h"

struct instance;

/*
 * A preflight's question: may that instance arrive? 0, or admission_check()'s -errno; -EAGAIN also where this hostd
 * ends. hold: its room is kept for it until the record names this host as its destination, for ADMISSION_ARRIVAL_MS at
 * most. Any thread.
 */
int guests_admit_arrival(struct context *ctx, const struct instance *i, bool hold, struct err *err);
/*
 * It is about to run here: before its claim. 0, or the same errors: its source has taken longer than the 15 s, and
 * others have got its room. Any thread.
 */
int guests_admit_commit(struct context *ctx, const struct instance *i, struct err *err);

/* Is any guest on its way here, or promised to be? Any thread. */
bool guests_arriving(struct context *ctx);
