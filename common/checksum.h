/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "common/err.h"

/* A checksum that somebody gave for a file, "sha256:HEX" or "sha512:HEX". One thread at a time. */
struct checksum;

int checksum_new(const char *text, struct checksum **ret, struct err *err); /* -EINVAL: not such a text */
/* The file's bytes, in order. */
int checksum_feed(struct checksum *c, const void *buf, size_t len, struct err *err);
/* All bytes were fed. -EBADMSG: they have another checksum; err has both. May be called once. */
int checksum_check(struct checksum *c, struct err *err);
struct checksum *checksum_free(struct checksum *c);
void checksum_freep(struct checksum **c); /* for _cleanup_ */
