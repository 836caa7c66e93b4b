/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct store;

/*
 * An image's manifest: XXH3-128 of each 4 MiB of its raw disk, the last one may be shorter. It is kept in
 * records of the kind "manifest", IMAGE-0, IMAGE-1 and so on, of 4096 chunks (16 GiB of disk) each:
 * {"chunks": TEXT}, where TEXT is 32 hexadecimal digits (the canonical form) for a chunk, or "-" for one of
 * zeros only. It is whole when the image is active. One thread at a time.
 */
#define MANIFEST_CHUNK ((size_t)4 << 20)
#define MANIFEST_PART 4096 /* chunks of a record */
#define MANIFEST_ALGORITHM "xxh3-128"

struct manifest;

/* A chunk's text in a manifest, "-" for one of zeros only. */
#define MANIFEST_DIGITS 32
void manifest_text(const void *chunk, size_t len, char ret[MANIFEST_DIGITS + 1]);

/* Writing: the disk's bytes in order. What is full goes to the store at once. */
int manifest_new(struct store *s, const char *image, struct manifest **ret, struct err *err);
int manifest_data(struct manifest *m, const void *buf, size_t len, struct err *err);
int manifest_zeros(struct manifest *m, uint64_t len, struct err *err);
/* From the disk's beginning again; takes back what went to the store, of an earlier upload too. */
int manifest_restart(struct manifest *m, struct err *err);
/* The disk ends here. ret_parts: the number of records. */
int manifest_finish(struct manifest *m, unsigned *ret_parts, struct err *err);

/* Reading. */
int manifest_open(struct store *s, const char *image, unsigned parts, struct manifest **ret,
                  struct err *err);
/* The next chunk as it is now: 1 it is as it was, 0 it is not. NULL: it cannot be read, which gives 0. */
int manifest_check(struct manifest *m, const void *chunk, size_t len, struct err *err);

struct manifest *manifest_free(struct manifest *m);

/* Removes the records of an image, if there are any. */
int manifest_remove(struct store *s, const char *image, struct err *err);
