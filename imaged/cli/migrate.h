/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "common/err.h"

/* What a record says of the move with that serial: 1 done, 0 not yet, -errno with the recorded reason. */
int move_reached(const json_t *rec, int64_t serial, struct err *err);
