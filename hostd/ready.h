/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "hostd/context.h"

/* Writes into the own host record whether this host can start guests, where that has changed: a planner
 * gives none to a host that cannot. Called by the scan. */
void ready_tell(struct context *ctx);
