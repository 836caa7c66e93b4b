/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/err.h"
#include "hostd/context.h"

/* Events for people. Never blocks; drops the newest when the storage is away for long. */
int events_new(struct context *ctx, struct events **ret, struct err *err);
/* Writes what is queued, unless the storage is away. Returns NULL. */
struct events *events_free(struct events *e);
/* Any thread. instance, name: NULL where the event is about the host. */
void event_add(struct context *ctx, const char *kind, const char *instance, const char *name,
               const char *fmt, ...) __attribute__((format(printf, 5, 6)));
