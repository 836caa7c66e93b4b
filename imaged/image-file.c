/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "common/log.h"
#include "imaged/image.h"
#include "imaged/records.h"
#include "imaged/sparse.h"
#include "imaged/upload.h"

#define OCTETS "application/octet-stream"

/* --- PUT /v2/images/{id}/file --- */

struct body {
        struct upload *upload;
        bool refused; /* what came was not good, or the store did not take it */
        char why[256];
};

static int body_begin(struct http_request *req, struct body *b, struct imaged *im, const char *status,
                      struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        const char *id = http_param(req, "id"), *type = http_header(req, "Content-Type"),
                   *length = http_header(req, "Content-Length"), *resume = http_query(req, "resume");
        int r;

        r = image_of(req, im, IMAGE_CHANGE, &record, err);
        if (r < 0)
                return r;
        if (type && strncasecmp(type, OCTETS, strlen(OCTETS)) != 0 && !sparse_type(type))
                return err_set(err, -EMEDIUMTYPE, "Content-Type \"%s\": %s and %s are possible", type,
                               OCTETS, SPARSE_TYPE);
        r = resume && streq(status, "saving") ? upload_resume(im, id, resume, &b->upload, err)
                                              : upload_begin(im, id, status, &b->upload, err);
        if (r < 0)
                return r == -ENOENT ? err_set(err, r, "no image %s", id) : r;
        return upload_format(b->upload, type, length ? strtoull(length, NULL, 10) : UINT64_MAX, err);
}

static int body_take(struct http_request *req, void **state, const void *data, size_t len, struct imaged *im,
                     const char *status, struct err *err)
{
        struct body *b = *state;
        int r = 0;

        if (!b) {
                b = *state = calloc(1, sizeof(*b));
                if (!b)
                        return err_set(err, -ENOMEM, "out of memory");
                snprintf(b->why, sizeof(b->why), "the client went away before the end");
                r = body_begin(req, b, im, status, err);
        }
        if (r == 0)
                r = upload_push(b->upload, data, len, err);
        if (r < 0) {
                snprintf(b->why, sizeof(b->why), "%s", err_text(err));
                b->refused = r != -EHOSTUNREACH; /* this imaged is being stopped */
        }
        return r;
}

static int body_data(struct http_request *req, void **state, const void *data, size_t len, void *userdata,
                     struct err *err)
{
        return body_take(req, state, data, len, userdata, "saving", err);
}

/* PUT /v2/images/{id}/stage: straight into the store as well, checked and converted; the import that follows
 * only makes it active. */
static int stage_data(struct http_request *req, void **state, const void *data, size_t len, void *userdata,
                      struct err *err)
{
        return body_take(req, state, data, len, userdata, "uploading", err);
}

static void body_done(void *state)
{
        struct body *b = state;

        if (b && b->refused)
                upload_free(b->upload, b->why);
        else if (b)
                upload_park(b->upload, b->why);
        free(b);
}

const struct http_body image_upload_body = {.data = body_data, .done = body_done};
const struct http_body image_stage_body = {.data = stage_data, .done = body_done};

int image_on_stage(struct http_request *req, void *userdata, struct err *err)
{
        return image_on_upload(req, userdata, err);
}

int image_on_upload(struct http_request *req, void *userdata, struct err *err)
{
        struct body *b = http_body_state(req);
        int r;

        if (!b)
                return err_set(err, -EINVAL, "image %s: the body has 0 bytes", http_param(req, "id"));
        r = upload_finish(b->upload, err);
        if (r < 0)
                snprintf(b->why, sizeof(b->why), "%s", err_text(err));
        b->upload =
            upload_free(b->upload, b->why); /* before the reply: who reads it finds everything undone */
        return r < 0 ? r : http_reply_json(req, 204, NULL);
}

/* --- GET /v2/images/{id}/file: the raw disk --- */

struct download {
        struct volume *volume;
        uint64_t start, len;
};

static ssize_t download_read(void *state, uint64_t offset, void *buf, size_t len)
{
        struct download *d = state;
        struct err err = {0};
        int r;

        if (offset >= d->len)
                return 0;
        len = (size_t)MIN_OF((uint64_t)len, d->len - offset);
        r = volume_read(d->volume, buf, len, d->start + offset, &err);
        if (r < 0) {
                log_warn("download: %s", err_text(&err));
                return r;
        }
        return (ssize_t)len;
}

static void download_done(void *state)
{
        struct download *d = state;

        volume_close(d->volume);
        free(d);
}

/* "bytes=FIRST-LAST", "bytes=FIRST-" or "bytes=-COUNT"; one range. Returns 1 where there is one to obey, 0
 * where not. */
static int range_parse(const char *text, uint64_t size, uint64_t *ret_first, uint64_t *ret_last)
{
        unsigned long long first, last = size - 1;
        char *end;

        if (!text || strncmp(text, "bytes=", 6) != 0 || strchr(text, ','))
                return 0;
        text += 6;
        errno = 0;
        if (text[0] == '-') {
                last = strtoull(text + 1, &end, 10);
                if (errno || *end || end == text + 1)
                        return 0;
                if (last == 0)
                        return -ERANGE;
                first = last < size ? size - last : 0;
                last = size - 1;
        } else {
                if (text[0] < '0' || text[0] > '9')
                        return 0;
                first = strtoull(text, &end, 10);
                if (errno || *end != '-')
                        return 0;
                if (end[1]) {
                        text = end + 1;
                        last = strtoull(text, &end, 10);
                        if (errno || *end || text[0] < '0' || text[0] > '9' || last < first)
                                return 0;
                }
        }
        if (first >= size)
                return -ERANGE;
        *ret_first = first;
        *ret_last = MIN_OF(last, (unsigned long long)size - 1);
        return 1;
}

static int download_reply(struct http_request *req, struct volume *volume, struct err *err)
{
        struct download *d = calloc(1, sizeof(*d));
        uint64_t size = volume_size(volume), first, last;
        _cleanup_(freep) char *range = NULL;
        int r;

        if (!d) {
                volume_close(volume);
                return err_set(err, -ENOMEM, "out of memory");
        }
        *d = (struct download){.volume = volume, .len = size};
        r = range_parse(http_header(req, "Range"), size, &first, &last);
        if (r < 0) {
                range = str_printf("bytes */%llu", (unsigned long long)size);
                if (range)
                        http_reply_header(req, "Content-Range", range);
                download_done(d);
                return err_set(err, -ERANGE, "Range \"%s\": the image ends at %llu",
                               http_header(req, "Range"), (unsigned long long)size);
        }
        http_reply_header(req, "Accept-Ranges", "bytes");
        if (r > 0) {
                d->start = first;
                d->len = last - first + 1;
                range = str_printf("bytes %llu-%llu/%llu", (unsigned long long)first,
                                   (unsigned long long)last, (unsigned long long)size);
                if (range)
                        http_reply_header(req, "Content-Range", range);
        }
        return http_reply_stream(req, r > 0 ? 206 : 200, OCTETS, d->len, download_read, download_done, d);
}

int image_on_download(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *id = http_param(req, "id"), *status;
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct volume *volume = NULL;
        int r;

        r = image_of(req, im, IMAGE_SEE, &record, err);
        if (r < 0)
                return r;
        status = json_get_str(record, "status", "");
        if (streq(status, "deactivated") && !caller_of(req)->admin)
                return err_set(err, -EACCES, "image %s is deactivated", id);
        if (!streq(status, "active") && !streq(status, "deactivated"))
                return http_reply_json(req, 204, NULL); /* as the Image API has it: no data yet */
        r = volume_open(im->store, id, &volume, err);
        if (r < 0)
                return records_wrap(err, r, "image", id);
        return download_reply(req, volume, err);
}
