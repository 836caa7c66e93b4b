/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "hostd/context.h"
#include "migrate/health.h"

/* Whether the storage has room for what guests write, at most ROOM_AGE_MS old: one thread asks for all. Any
 * thread; may block. */
#define ROOM_AGE_MS 2000
enum health_room room_now(struct context *ctx);
