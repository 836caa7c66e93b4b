/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "imaged/store/store.h"

/*
 * Records as JSON. Codes as the store's, but for -EPERM and -EACCES, which become -EIO: what the storage
 * refuses to imaged is not a refusal of the caller. Any thread.
 */

/* The caller owns *ret. ret_version may be NULL. */
int records_load(struct store *s, enum record_kind kind, const char *id, json_t **ret, uint64_t *ret_version,
                 struct err *err);
/* record NULL deletes. ret_version may be NULL. */
int records_save(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                 const json_t *record, uint64_t *ret_version, struct err *err);

/*
 * Reads, changes, writes, and again where another writer was first. change returns 0 to write, 1 where
 * nothing is to be written, or -errno, which ends it; it may be called several times. ret (may be NULL): the
 * record as it is now.
 */
typedef int (*records_change_cb)(json_t *record, void *arg, struct err *err);
int records_change(struct store *s, enum record_kind kind, const char *id, records_change_cb change,
                   void *arg, json_t **ret, struct err *err);

/* Every record of a kind. One that is not JSON is logged and left out. cb returns 0, or a value that ends
 * the list. */
typedef int (*records_cb)(void *arg, const char *id, uint64_t version, json_t *record);
int records_each(struct store *s, enum record_kind kind, records_cb cb, void *arg, struct err *err);

/* Maps a code of the storage to what an HTTP caller may see; wrap also puts "what id: " before the text, if
 * it is not there (engines differ in that). Both return the code. */
int records_code(int r);
int records_wrap(struct err *err, int r, const char *what, const char *id);
