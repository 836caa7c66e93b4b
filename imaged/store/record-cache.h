/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "imaged/store/store.h"

/*
 * Texts of records by version, so that a second list reads only what changed. A version's text never
 * changes, so what is in here is never stale; only who is the newest must be asked of the storage. Bounded
 * by bytes: beyond the limit arbitrary entries make room. Any thread.
 */
struct record_cache;

struct record_cache *record_cache_new(size_t max_bytes); /* NULL: out of memory */
struct record_cache *record_cache_free(struct record_cache *c);
/* A copy of the text of exactly that version, or NULL; the caller frees. A deleted version is kept as "". */
char *record_cache_get(struct record_cache *c, enum record_kind kind, const char *id, uint64_t version);
/* Keeps a copy in place of an older version of that record; a newer one stays. Failing to is no error. */
void record_cache_put(struct record_cache *c, enum record_kind kind, const char *id, uint64_t version,
                      const char *text);
