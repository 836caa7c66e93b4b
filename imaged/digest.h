/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct store;

/* What is made of a raw disk's bytes on their way into the store: its SHA-256 and its manifest (manifest.h).
 * One thread at a time. */
struct digest;

#define DIGEST_DIGITS 64

int digest_new(struct store *s, const char *image, struct digest **ret, struct err *err);
/* Data at an offset; what lies between it and the data before is zeros. Returns 1 where it was taken, 0
 * where it comes for what is hashed already: then the disk has to be read again, from digest_restart() on.
 */
int digest_data(struct digest *d, const void *buf, size_t len, uint64_t offset, struct err *err);
int digest_restart(struct digest *d, struct err *err);
/* The disk ends at `size`. ret_parts: records of the manifest, which is on the store now. */
int digest_finish(struct digest *d, uint64_t size, char ret_sha256[DIGEST_DIGITS + 1], unsigned *ret_parts,
                  struct err *err);
struct digest *digest_free(struct digest *d);
