/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "common/err.h"

struct cli;
struct image_info;

/* The reasons as the array of a JSON document; a new reference, NULL: out of memory. */
json_t *image_refusals_json(const struct image_info *info);
/* --format as the enum, -1 where it is not given. */
int image_declared(struct cli *cli, int *ret, struct err *err);
