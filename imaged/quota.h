/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/daemon.h"

/*
 * The bytes of images that an account may have. An image's whole virtual size is reserved in the account's
 * record, by compare-and-swap, before the image's first byte is written, and given back once the bytes are
 * gone: so uploads at the same time, through any imaged, cannot exceed it together. An owner without an
 * account (the operator), or whose account has no quota, has no limit. Any thread.
 */
struct quota {
        uint64_t limit, used; /* bytes; limit UINT64_MAX: none, and used is not counted */
};

int quota_get(struct imaged *im, const char *owner, struct quota *ret, struct err *err);
/* Sets what the image holds, more or less than before. -EDQUOT: more than is left. */
/* What is counted of an image. */
uint64_t quota_bytes(const json_t *image);
int quota_reserve(struct imaged *im, const char *owner, const char *image, uint64_t bytes, struct err *err);
/* Of an image whose bytes are gone; harmless where nothing is reserved. */
int quota_release(struct imaged *im, const char *owner, const char *image, struct err *err);
/*
 * Reserves what the account's images have already, beyond the limit too: while there was none, nothing was.
 * What arrives meanwhile reserves by itself, as the limit is in the record before. ret: the record then.
 * -EDQUOT: more images than can be counted.
 */
int quota_count(struct imaged *im, const char *owner, json_t **ret, struct err *err);
/* Gives back what is reserved for images that have no bytes, nor any on their way, or another owner, and did
 * not for as long as `stale` says (called for each; true: long enough). */
int quota_sweep(struct imaged *im, bool (*stale)(void *arg, const char *image), void *arg, struct err *err);
