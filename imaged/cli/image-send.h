/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "common/err.h"

struct cli;
struct sparse_input;
struct stat;

/*
 * Sends a disk's data to an image that is queued. Where the server goes away in the middle, it waits for it
 * (or for another one behind the same address) and goes on with what the store holds. `file` is what the
 * input is read from, `begin` what it was when it was inspected: what changed since is -ESTALE, also at the
 * end. ret_sent: bytes sent in all.
 */
int image_send(struct cli *cli, const char *id, const char *name, const struct sparse_input *in, int file,
               const struct stat *begin, uint64_t *ret_sent, struct err *err);
