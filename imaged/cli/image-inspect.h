/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "common/err.h"

struct cli;
struct image_info;
struct source;

/* The reasons as the array of a JSON document; a new reference, NULL: out of memory. */
json_t *image_refusals_json(const struct image_info *info);
/* The file or block device as a descriptor, and what it is read by; -errno. What is neither is refused at
 * once. */
int image_file_open(const char *path, int *ret, struct source *ret_src, struct err *err);

/* Tells every reason, not only the first: whoever made the image wants to repair it once. Returns -EBADMSG.
 */
int image_refused(struct cli *cli, const char *path, const struct image_info *info, struct err *err);
/* --format as the enum, -1 where it is not given. */
int image_declared(struct cli *cli, int *ret, struct err *err);
