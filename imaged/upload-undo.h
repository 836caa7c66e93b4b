/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "common/err.h"
#include "common/util.h"

struct imaged;

/*
 * The steps by which an upload that is not to be finished goes away, in this order; each may be cut short
 * and is then done again by the collector. Any thread.
 */

/* Takes the record from `nonce`: a late "active" fails from here on, and so does who would go on with it.
 * ret_mine: the nonce that it has instead; ret: the record, the caller's. -ESTALE: it was not that one's any
 * more; -ENOENT: it is deleted. */
int undo_seize(struct imaged *im, const char *image, const char *nonce, char ret_mine[UUID_LEN + 1],
               json_t **ret, struct err *err);
/* Its bytes, manifest and reservation; then the image is queued again, for `why`. */
int undo_bytes(struct imaged *im, const char *image, const char *mine, const json_t *record, const char *why,
               struct err *err);
/* After -ENOENT: what may lie in the store under the id that was deleted. */
int undo_deleted(struct imaged *im, const char *image, struct err *err);
/* Tells who watches the events. */
void undo_tell(struct imaged *im, const char *image, const char *why);
