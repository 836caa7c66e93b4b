/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "hostd/context.h"

/* Everything that concerns this host gets a guest: names and placements on the storage, QEMUs here. Main. */
void scan_run(struct context *ctx);
