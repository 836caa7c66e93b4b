/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "imaged/image.h"
#include "imaged/manifest.h"
#include "imaged/records.h"

/*
 * GET /v2/images/{id}/verify[?rate=BYTES]: reads the golden image through the store at a bounded rate and
 * compares it with its manifest. The answer comes while it goes on, one JSON document a line:
 *
 *   {"done": BYTES, "total": BYTES}                         every MiB
 *   {"damaged": {"offset": N, "length": N, "error": TEXT?}}  a chunk; error: it cannot be read
 *   {"ok": BOOL, "damaged": CHUNKS}                         the last line: it was looked at to its end
 *   {"error": TEXT}                                         the last line: it was not
 *
 * A client that goes away ends it.
 */
#define PIECE ((size_t)1 << 20)
#define RATE_DEFAULT (UINT64_C(100) << 20)
#define RATE_MIN                                                                                            \
        (UINT64_C(1) << 20) /* a line a second at least, so that the connection is not taken for dead */
#define WAIT_MS 100         /* how long an imaged that stops has to wait for it */

struct verify {
        struct imaged *im;
        struct volume *volume;
        struct manifest *manifest;
        uint64_t size, at; /* bytes of the disk */
        uint64_t rate;
        int64_t begin_ms;
        unsigned damaged;
        bool unreadable; /* part of the chunk at hand */
        bool over;
        char why[256]; /* of unreadable */
        char *line;    /* what the client has not got yet: [sent, strlen) */
        size_t sent;
        uint8_t chunk[];
};

static int line_set(struct verify *v, json_t *doc)
{
        _cleanup_(freep) char *text = doc ? json_text(doc) : NULL;
        char *line = text ? str_printf("%s%s\n", v->line ? v->line : "", text) : NULL;

        json_decref(doc);
        if (!line)
                return -ENOMEM;
        free(v->line);
        v->line = line;
        return 0;
}

static int end_with(struct verify *v, json_t *doc)
{
        v->over = true;
        return line_set(v, doc);
}

/* Waits until the bytes up to `at` may have been read. */
static int pace(struct verify *v)
{
        int64_t due = v->begin_ms + (int64_t)(v->at * 1000 / v->rate);

        for (int64_t now = clock_ms(); now < due && !v->im->stopping; now = clock_ms())
                poll(NULL, 0, (int)MIN_OF(due - now, (int64_t)WAIT_MS));
        return v->im->stopping ? -ECANCELED : 0;
}

static int chunk_done(struct verify *v, size_t len, struct err *err)
{
        uint64_t offset = v->at - len;
        int r = manifest_check(v->manifest, v->unreadable ? NULL : v->chunk, len, err);

        if (r == 0) {
                v->damaged++;
                r = line_set(v,
                             json_pack("{s:{s:I,s:I,s:s*}}", "damaged", "offset", (json_int_t)offset,
                                       "length", (json_int_t)len, "error", v->unreadable ? v->why : NULL));
        }
        v->unreadable = false;
        return r < 0 ? r : 0;
}

/* A piece of a chunk. That the storage is away is no damage of the image. */
static int piece_read(struct verify *v, struct err *err)
{
        size_t in_chunk = (size_t)(v->at % MANIFEST_CHUNK);
        size_t n = (size_t)MIN_OF((uint64_t)MIN_OF(PIECE, MANIFEST_CHUNK - in_chunk), v->size - v->at);
        struct err why = {0};
        int r = volume_read(v->volume, v->chunk + in_chunk, n, v->at, &why);

        if (r == -EIO || r == -EINVAL || r == -EBADMSG) { /* EINVAL: the volume ends before the disk does */
                v->unreadable = true;
                snprintf(v->why, sizeof(v->why), "%.255s", err_text(&why));
        } else if (r < 0) {
                *err = why;
                return r;
        }
        v->at += n;
        in_chunk += n;
        return in_chunk == MANIFEST_CHUNK || v->at == v->size ? chunk_done(v, in_chunk, err) : 0;
}

/* Makes the next line, or lines. */
static int verify_step(struct verify *v)
{
        struct err err = {0};
        int r;

        freep(&v->line);
        v->line = NULL;
        v->sent = 0;
        if (v->at == v->size)
                return end_with(v,
                                json_pack("{s:b,s:i}", "ok", v->damaged == 0, "damaged", (int)v->damaged));
        r = pace(v);
        if (r < 0)
                return r;
        r = piece_read(v, &err);
        if (r < 0)
                return end_with(v, json_pack("{s:s}", "error", err_text(&err)));
        return line_set(v, json_pack("{s:I,s:I}", "done", (json_int_t)v->at, "total", (json_int_t)v->size));
}

static ssize_t verify_read(void *state, uint64_t offset, void *buf, size_t len)
{
        struct verify *v = state;

        if (!v->line || !v->line[v->sent]) {
                int r = v->over ? 0 : verify_step(v);

                if (r < 0 || !v->line || !v->line[v->sent])
                        return r;
        }
        len = MIN_OF(len, strlen(v->line + v->sent));
        memcpy(buf, v->line + v->sent, len);
        v->sent += len;
        return (ssize_t)len;
}

static void verify_free(void *state)
{
        struct verify *v = state;

        if (!v)
                return;
        volume_close(v->volume);
        manifest_free(v->manifest);
        free(v->line);
        free(v);
}

static int rate_of(struct http_request *req, uint64_t *ret, struct err *err)
{
        const char *text = http_query(req, "rate");
        char *end;

        *ret = RATE_DEFAULT;
        if (!text)
                return 0;
        errno = 0;
        *ret = strtoull(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || *end || errno || *ret < RATE_MIN)
                return err_set(err, -EINVAL, "rate \"%.40s\": bytes a second, at least %" PRIu64, text,
                               RATE_MIN);
        return 0;
}

static int manifest_of(struct verify *v, const json_t *record, const char *id, struct err *err)
{
        const json_t *m = json_object_get(record, "manifest");
        const char *status = json_get_str(record, "status", "");

        if (!streq(status, "active") && !streq(status, "deactivated"))
                return err_set(err, -EBUSY, "image %s is %s: there is nothing to verify", id, status);
        if (!json_is_object(m))
                return err_set(err, -EBUSY,
                               "image %s has no manifest: it was added before imaged made them; what it was "
                               "like then is not known",
                               id);
        if (!streq(json_get_str(m, "algorithm", NULL), MANIFEST_ALGORITHM) ||
            json_get_int(m, "chunk", 0) != (int64_t)MANIFEST_CHUNK)
                return err_set(err, -EOPNOTSUPP, "image %s has a manifest of another kind", id);
        v->size = (uint64_t)json_get_int(record, "size", 0);
        return manifest_open(v->im->store, id, (unsigned)json_get_int(m, "parts", 0), &v->manifest, err);
}

int image_on_verify(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *id = http_param(req, "id");
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct verify *v;
        int r = image_of(req, im, IMAGE_CHANGE, &record, err);

        if (r < 0)
                return r;
        v = calloc(1, sizeof(*v) + MANIFEST_CHUNK);
        if (!v)
                return err_set(err, -ENOMEM, "out of memory");
        v->im = im;
        v->begin_ms = clock_ms();
        r = rate_of(req, &v->rate, err);
        if (r == 0)
                r = manifest_of(v, record, id, err);
        if (r == 0) {
                r = volume_open(im->store, id, &v->volume, err);
                if (r < 0)
                        records_wrap(err, r, "image", id);
        }
        if (r < 0) {
                verify_free(v);
                return records_code(r);
        }
        return http_reply_stream(req, 200, "application/x-ndjson", UINT64_MAX, verify_read, verify_free, v);
}
