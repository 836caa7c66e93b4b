/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "hostd/context.h"

/*
 * This host goes down in order: hands its guests on, live or by a stop here and a start there, within the
 * time that the configuration gives. Returns when none is left, or when the time is over. Main thread.
 */
void handover_run(struct context *ctx);
