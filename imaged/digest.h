/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct store;
struct volume;

/*
 * What is made of a raw disk's bytes on their way into the store: its manifest (manifest.h), and its
 * SHA-256. One thread at a time.
 *
 * A hole costs the manifest nothing, but SHA-256 a second for 2 GB. So it is made where zeros are in
 * proportion: of a disk whose zeros came over the wire like its data, and of one whose holes are at most a
 * quarter of the data before them and DIGEST_HOLES. Else the image has none; its manifest says as much.
 */
struct digest;

#define DIGEST_DIGITS 64
#define DIGEST_HOLES ((uint64_t)128 << 20)

/* all_zeros: the SHA-256 is made, whatever the holes. */
int digest_new(struct store *s, const char *image, bool all_zeros, struct digest **ret, struct err *err);
/* Data at an offset; what lies between it and the data before is zeros. */
int digest_data(struct digest *d, const void *buf, size_t len, uint64_t offset, struct err *err);
/* All before `offset` is in the volume already, whatever it is: the hash is made by reading it again. */
int digest_resume(struct digest *d, uint64_t offset, struct err *err);
/*
 * The disk ends at `size`, and is all in the volume: where data did not come in the disk's order, what was
 * written is read again. ret_sha256: "" where none is made. ret_parts: records of the manifest, which is on
 * the store now.
 */
int digest_finish(struct digest *d, struct volume *v, uint64_t size, char ret_sha256[DIGEST_DIGITS + 1],
                  unsigned *ret_parts, struct err *err);
struct digest *digest_free(struct digest *d);
