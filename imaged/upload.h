/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct imaged;

/*
 * The bytes of one image on their way into the store, in one pass: format checked, converted to raw, hashed,
 * written sparse. The image's record says "saving" (or "importing") meanwhile and carries this upload's
 * nonce in `import`; every change of the record asks for that nonce, so an upload that was declared dead and
 * cleaned up cannot finish any more. One thread at a time, but for the functions marked.
 */
struct upload;

/* Takes the image, which must be queued; `status` is what its record says from now on: "saving",
 * "importing", or "uploading", which it stays after the end, until the import of what was staged. */
int upload_begin(struct imaged *im, const char *image, const char *status, struct upload **ret,
                 struct err *err);
/*
 * Instead of it, and of a sparse body only: goes on with the upload of nonce `by`, whose imaged or client is
 * gone, with what it left in the store. Only one can: from here on the old one's next change of the record
 * fails. What the body does not cover stays as it is in the store (image-resume.c says what that is).
 * -ESTALE: it has ended in another way.
 */
int upload_resume(struct imaged *im, const char *image, const char *by, struct upload **ret,
                  struct err *err);
/* Before the first bytes. content_type NULL or any but SPARSE_TYPE: the bytes of a file of the record's
 * disk_format. size: bytes of the body, UINT64_MAX unknown (then the volume grows
 * with what comes). */
int upload_format(struct upload *up, const char *content_type, uint64_t size, struct err *err);
/* 0, or why it is to end now: deleted, or this imaged is being stopped. upload_push() asks by itself. */
int upload_wanted(const struct upload *up, struct err *err);
int upload_push(struct upload *up, const void *buf, size_t len, struct err *err);
/* How far it is, in place of the count of bytes pushed: for who pushes a disk's data without its holes. */
void upload_progress(struct upload *up, uint64_t done, uint64_t total);
/* All bytes are there: seals the image and makes it active. After a failure upload_free() undoes everything.
 */
int upload_finish(struct upload *up, struct err *err);
/* Undoes what was not finished: nothing is left in the store, the image is queued again; `why` goes into its
 * record. */
struct upload *upload_free(struct upload *up, const char *why);
/* Instead of it, where nothing was wrong with what came: a sparse body's begin stays in the store, and its
 * record as it would after this imaged's death, for an upload_resume(). Any other body is undone. */
struct upload *upload_park(struct upload *up, const char *why);

/* From the collector's thread: tells the other imageds that this one's uploads live. */
void upload_beat_all(struct imaged *im);
/* The image is being deleted: its upload here, if there is one, fails at its next piece. Any thread. */
void upload_cancel(struct imaged *im, const char *image);

/* Cleans up after an upload whose imaged is gone, or that nobody went on with: `by` is the nonce in its
 * record. -ESTALE: it moved after all. */
int upload_collect(struct imaged *im, const char *image, const char *by, struct err *err);
