/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/err.h"
#include "hostd/context.h"

/* This host among the others: who it is, its heartbeat, whom it watches, and whose guests it takes over. */
int ring_new(struct ring **ret);
/* After every task has ended: the heartbeat stops last. Returns NULL. */
struct ring *ring_free(struct ring *r);

/*
 * enter.c: which number this host has, and whether it may have it: migrate/identity.h. Blocks for some
 * seconds where another machine had that number. The heartbeat runs when it returns, if the host record
 * named this very machine; else it runs after the join. -EBUSY: another machine lives with that number.
 * -EEXIST: another name has it.
 */
int ring_enter(struct context *ctx, struct err *err);
/* join.c: after ring_enter(), and again when this host was taken over meanwhile. -EEXIST: another hostd has
 * joined with that number. */
int ring_join(struct context *ctx, struct err *err);
/* The orderly end: neighbours wait a minute before they act. */
void ring_leave(struct context *ctx);

/* beat.c: the first heartbeat has reached the storage when it returns */
int beat_start(struct context *ctx, struct err *err);
bool beat_running(const struct context *ctx);

/* hosts.c: watches the others and the own record */
int watch_start(struct context *ctx, struct err *err);

/* takeover.c: takes over what the dead host owned, on a task of its own; nothing where one is at work */
void takeover_start(struct context *ctx, unsigned dead);

/*
 * selftest.c: tries the store's fence, which decides whether this host may act on anybody's death, and
 * writes the verdict into the own host record. Returns 1 it holds, 0 it does not, negative could not be
 * tried (then what was known before stays). Blocks for seconds; one at a time, any thread.
 */
#define SELFTEST_TEXT 512
int selftest_run(struct context *ctx, char ret_text[SELFTEST_TEXT]);
/* What else this host's user of the storage lacks, appended to the array `list`: {"code","text","advice"}.
 * The log has it once, after the first self-test that could be tried. */
int selftest_findings(struct context *ctx, json_t *list, struct err *err);

/* lift.c: from time to time, on a task of its own */
void lift_start(struct context *ctx);
/* The next round comes ten minutes from now. Before the first lift_start(). */
void lift_later(struct context *ctx);
/* What another host asks for it, POST /v1/ended; the caller drops *ret. */
int lift_answer(struct context *ctx, const char *instance, const char *start, json_t **ret, struct err *err);
