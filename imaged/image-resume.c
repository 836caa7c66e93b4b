/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "imaged/image.h"
#include "imaged/manifest.h"
#include "imaged/records.h"
#include "imaged/upload-record.h"

/*
 * An upload whose imaged died, or whose client's connection broke, in the middle of it goes on, through any
 * imaged of the store:
 *
 *   GET /v1/images/ID/written?from=BYTES  what is in the store: hashes of its chunks, and the upload's nonce
 *   PUT /v2/images/ID/file?resume=NONCE   a sparse body of the chunks that differ from the client's
 *
 * What is there is compared and not believed, so nothing need be known of which write was the last one to
 * reach the disk. All is read again for the manifest before the image is active. An answer is a piece of the
 * disk and a sign of life of the upload, which is not collected while its client compares.
 */
#define CHUNKS_MAX 512 /* of an answer: 2 GiB, which the client has to read meanwhile */
#define READ_MS 5000   /* what was not read by then is for the next one: the client waits */

static int chunks_read(struct volume *v, uint64_t from, uint64_t end, int64_t ms, char *text,
                       struct err *err)
{
        _cleanup_(freep) uint8_t *chunk = malloc(MANIFEST_CHUNK);
        int64_t begin = clock_ms();
        int r = 0;

        if (!chunk)
                return err_set(err, -ENOMEM, "out of memory");
        for (uint64_t at = from; at < end && r == 0 && (at == from || clock_ms() - begin < ms);
             at += MANIFEST_CHUNK) {
                size_t n = (size_t)MIN_OF((uint64_t)MANIFEST_CHUNK, volume_size(v) - at);

                r = volume_read(v, chunk, n, at, err);
                if (r == 0)
                        manifest_text(chunk, n, text);
                text += r == 0 ? strlen(text) : 0;
        }
        return r;
}

/* What of the disk from `from` to `end` is in the store: as much of it as one answer takes. */
static int written_reply(struct http_request *req, struct imaged *im, struct volume *v, const char *by,
                         uint64_t from, uint64_t end, struct err *err)
{
        int64_t ms = MIN_OF(READ_MS, (int64_t)im->stale_ms / 4);
        const char *id = http_param(req, "id");
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        _cleanup_(freep) char *text = calloc(CHUNKS_MAX + 1, MANIFEST_DIGITS);
        int r;

        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        end = MIN_OF(end, volume_size(v));
        r = chunks_read(v, from, MIN_OF(end, from + (uint64_t)CHUNKS_MAX * MANIFEST_CHUNK), ms, text, err);
        if (r < 0)
                return records_wrap(err, r, "image", id);
        reply = json_pack("{s:s,s:i,s:I,s:I,s:s}", "upload", by, "chunk", (int)MANIFEST_CHUNK, "from",
                          (json_int_t)from, "end", (json_int_t)end, "chunks", text);
        return http_reply_json(req, 200, reply);
}

int image_on_written(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *id = http_param(req, "id"), *text = http_query(req, "from");
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct import_change c = {.image = id};
        struct volume *volume = NULL;
        const json_t *import;
        uint64_t from = text ? strtoull(text, NULL, 10) : 0;
        int r = image_of(req, im, IMAGE_CHANGE, &record, err);

        if (r < 0)
                return r;
        if (from % MANIFEST_CHUNK != 0 || from > IMAGE_SIZE_MAX)
                return err_set(err, -EINVAL, "from=%s: not a multiple of %d bytes", text,
                               (int)MANIFEST_CHUNK);
        import = json_object_get(record, "import");
        c.nonce = json_get_str(import, "by", NULL);
        if (!import_open(record))
                return err_set(err, -EBUSY, "image %s is %s: there is no upload to go on with", id,
                               json_get_str(record, "status", "unknown"));
        /* No sign of life where nothing is to go on with: an imaged that died before it made the volume, or
         * behind the seal, would never be found to be dead, and its client ask for ever. */
        r = volume_resume(im->store, id, false, &volume, err);
        if (r < 0)
                return records_wrap(err, r == -ENOENT ? -EBUSY : r, "image", id);
        r = image_change(im, id, import_touch, &c, NULL, err);
        if (r == 0)
                r = written_reply(req, im, volume, c.nonce, from, (uint64_t)json_get_int(import, "at", 0),
                                  err);
        volume_close(volume);
        return r;
}
