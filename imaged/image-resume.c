/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "imaged/image.h"
#include "imaged/manifest.h"

/*
 * An upload whose imaged died in the middle of it goes on, through any imaged of the store:
 *
 *   GET /v1/images/ID/written          what is in the store: hashes of its chunks, and the upload's nonce
 *   PUT /v2/images/ID/file?resume=NONCE   a sparse body of the chunks that differ from the client's
 *
 * What is there is compared and not believed, so nothing need be known of which write was the last one to
 * reach the disk. All is read again for the manifest before the image is active.
 */
#define CHUNKS_MAX 32768 /* 128 GiB; what lies beyond is sent again */
#define READ_MS 10000    /* what was not read by then, too: the client waits */

static int chunks_read(struct volume *v, uint64_t end, char *text, struct err *err)
{
        _cleanup_(freep) uint8_t *chunk = malloc(MANIFEST_CHUNK);
        int64_t begin = clock_ms();
        int r = 0;

        if (!chunk)
                return err_set(err, -ENOMEM, "out of memory");
        for (uint64_t at = 0; at < end && r == 0 && clock_ms() - begin < READ_MS; at += MANIFEST_CHUNK) {
                size_t n = (size_t)MIN_OF((uint64_t)MANIFEST_CHUNK, volume_size(v) - at);

                r = volume_read(v, chunk, n, at, err);
                if (r == 0)
                        manifest_text(chunk, n, text);
                text += r == 0 ? strlen(text) : 0;
        }
        return r;
}

int image_on_written(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *id = http_param(req, "id"), *by;
        _cleanup_(json_decrefpp) json_t *record = NULL, *reply = NULL;
        _cleanup_(freep) char *text = NULL;
        const json_t *import;
        struct volume *v = NULL;
        uint64_t end;
        int r = image_of(req, im, IMAGE_CHANGE, &record, err);

        if (r < 0)
                return r;
        import = json_object_get(record, "import");
        by = json_get_str(import, "by", NULL);
        if (!by || !streq(json_get_str(record, "status", NULL), "saving"))
                return err_set(err, -EBUSY, "image %s is %s: there is no upload to go on with", id,
                               json_get_str(record, "status", "unknown"));
        r = volume_resume(im->store, id, false, &v, err);
        if (r < 0)
                return records_wrap(err, r == -ENOENT ? -EBUSY : r, "image", id);
        end = MIN_OF((uint64_t)json_get_int(import, "at", 0), volume_size(v));
        end = MIN_OF(end, (uint64_t)CHUNKS_MAX * MANIFEST_CHUNK);
        text = calloc((size_t)(end / MANIFEST_CHUNK) + 2, MANIFEST_DIGITS);
        r = text ? chunks_read(v, end, text, err) : err_set(err, -ENOMEM, "out of memory");
        volume_close(v);
        if (r < 0)
                return records_wrap(err, r, "image", id);
        reply = json_pack("{s:s,s:i,s:s}", "upload", by, "chunk", (int)MANIFEST_CHUNK, "chunks", text);
        return http_reply_json(req, 200, reply);
}
