/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/err.h"
#include "hostd/context.h"

/* Everything that concerns this host gets a guest: names and placements on the storage, QEMUs here. On a
 * task of its own, every ten seconds and when self->rescan is set. Main, once. */
int scan_start(struct context *ctx, struct err *err);
