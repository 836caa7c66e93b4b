/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/image-send.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/progress.h"
#include "imaged/cli/sparse.h"

#define SPARSE_TYPE "application/vnd.wherry.sparse"
#define AWAY_S 180 /* imaged takes a minute to find out that one that it cannot go on with is dead */
#define TRIES 20   /* so many in a row that did not get far */
#define FAR ((uint64_t)16 << 20) /* more than lies in buffers on the way */
#define DIGITS 32

struct sending {
        struct cli *cli;
        const char *id;
        const struct sparse_input *in;
        int file;
        const struct stat *begin; /* of the file, when it was inspected */

        char *resume;   /* nonce of the upload to go on with; NULL: from the disk's begin */
        uint64_t chunk; /* bytes; chunks of which the store has the same are not sent */
        bool *same;
        size_t n_same;

        struct sparse_encoder *encoder;
        struct progress progress;
        uint64_t total, before, sent; /* before: of total, what is not sent any more */
        struct err *err;
};

/* --- one try --- */

static int rest_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct sending *s = state;

        return s->in->read(s->in->state, buf, len, offset, err);
}

/* As the disk's own, but what is there counts as a hole. */
static int rest_extent(void *state, uint64_t offset, uint64_t *ret_len, bool *ret_data, struct err *err)
{
        const struct sending *s = state;
        uint64_t i = s->chunk > 0 ? offset / s->chunk : 0, end = (i + 1) * s->chunk;
        int r;

        if (i < s->n_same && s->same[i]) {
                *ret_len = end - offset;
                *ret_data = false;
                return 0;
        }
        r = s->in->extent(s->in->state, offset, ret_len, ret_data, err);
        if (i<s->n_same && * ret_len> end - offset)
                *ret_len = end - offset;
        return r;
}

static ssize_t upload_read(void *state, uint64_t offset, void *buf, size_t len)
{
        struct sending *s = state;
        ssize_t n = sparse_encoder_read(s->encoder, buf, len, s->err);

        if (n > 0)
                s->sent += (uint64_t)n;
        progress_draw(&s->progress, s->before + sparse_encoder_done(s->encoder), s->total);
        return n;
}

static int send_once(struct sending *s, const char *what, struct err *err)
{
        const struct sparse_input rest = {
            .size = s->in->size, .read = rest_read, .extent = rest_extent, .state = s};
        _cleanup_(freep) char *path = str_printf("/v2/images/%s/file%s%s", s->id,
                                                 s->resume ? "?resume=" : "", s->resume ? s->resume : "");
        /* The server wants the size before the first data: it makes the volume then. */
        _cleanup_(freep) char *type = str_printf(SPARSE_TYPE "; size=%llu", (unsigned long long)s->in->size);
        uint64_t left = 0;
        int r;

        if (!path || !type)
                return err_set(err, -ENOMEM, "out of memory");
        r = sparse_data_size(&rest, &left, err);
        if (r == 0)
                r = sparse_encoder_new(&rest, &s->encoder, err);
        if (r < 0)
                return r;
        if (!s->resume)
                s->total = left;
        s->before = s->total - MIN_OF(left, s->total);
        s->err = err;
        progress_begin(&s->progress, what, s->cli->json);
        r = http_upload(s->cli->http, "PUT", path, type, UINT64_MAX, upload_read, s, NULL, err);
        progress_end(&s->progress);
        s->encoder = sparse_encoder_free(s->encoder);
        return r;
}

/* --- what the store has --- */

static int is_hole(const struct sparse_input *in, uint64_t from, uint64_t to, struct err *err)
{
        uint64_t len = 0;
        bool data = false;
        int r = 0;

        for (; from < to && r == 0 && !data; from += len)
                r = in->extent(in->state, from, &len, &data, err);
        return r < 0 ? r : !data;
}

static int chunk_same(const struct sparse_input *in, const char *text, uint8_t *buf, uint64_t at, size_t len,
                      struct err *err)
{
        XXH128_canonical_t canonical;
        char digits[DIGITS + 1];
        int r;

        if (text[0] == '-')
                return is_hole(in, at, at + len, err);
        r = in->read(in->state, buf, len, at, err);
        if (r < 0)
                return r;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits(buf, len));
        for (size_t i = 0; i < sizeof(canonical.digest); i++)
                snprintf(digits + 2 * i, 3, "%02x", canonical.digest[i]);
        return strncmp(digits, text, DIGITS) == 0;
}

static int same_begin(struct sending *s, const char *upload, int64_t chunk, struct err *err)
{
        free(s->resume);
        free(s->same);
        s->resume = strdup(upload);
        s->chunk = (uint64_t)chunk;
        s->n_same = 0;
        s->same = calloc((size_t)(s->in->size / s->chunk) + 1, sizeof(*s->same));
        return s->resume && s->same ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* An answer tells of a piece of the disk. 1: it was the last one; 0: the next is to be asked for, from
 * s->n_same on. */
static int written_compare(struct sending *s, const json_t *written, struct err *err)
{
        const char *text = json_get_str(written, "chunks", ""),
                   *upload = json_get_str(written, "upload", NULL);
        int64_t chunk = json_get_int(written, "chunk", 0);
        uint64_t from = (uint64_t)json_get_int(written, "from", 0),
                 end = MIN_OF((uint64_t)json_get_int(written, "end", 0), s->in->size);
        _cleanup_(freep) uint8_t *buf = NULL;
        int r = 0;

        if (!upload || chunk < 4096 || chunk > 64 << 20 || (!*text && from < end))
                return err_set(err, -EBADMSG, "%s: does not say what it has of image %s", s->cli->url,
                               s->id);
        if (!streq(upload, s->resume) ||
            (uint64_t)chunk != s->chunk) { /* the first, or from now on another */
                r = same_begin(s, upload, chunk, err);
                if (r < 0 || from != 0)
                        return r;
        }
        if (from != s->n_same * s->chunk)
                return err_set(err, -EBADMSG, "%s: tells of another piece of image %s", s->cli->url, s->id);
        buf = malloc((size_t)chunk);
        if (!buf)
                return err_set(err, -ENOMEM, "out of memory");
        for (uint64_t at = from; *text && at < s->in->size; at += s->chunk) {
                size_t len = (size_t)MIN_OF(s->chunk, s->in->size - at);

                if (text[0] != '-' && strnlen(text, DIGITS) < DIGITS)
                        break;
                r = chunk_same(s->in, text, buf, at, len, err);
                if (r < 0)
                        return r;
                s->same[s->n_same++] = r > 0;
                text += text[0] == '-' ? 1 : DIGITS;
                progress_draw(&s->progress, at + len, end);
        }
        return s->n_same * s->chunk >= end;
}

static int file_unchanged(const struct sending *s, struct err *err)
{
        struct stat now;

        if (fstat(s->file, &now) < 0)
                return err_set(err, -errno, "the file: %s", strerror(errno));
        if (now.st_size != s->begin->st_size || now.st_mtim.tv_sec != s->begin->st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != s->begin->st_mtim.tv_nsec)
                return err_set(err, -ESTALE, "the file was changed while it was read");
        return 0;
}

/* There is nothing to go on with: 1 it is whole, 0 somebody has given it up, -EAGAIN neither yet. */
static int find_status(struct sending *s, struct err *err)
{
        _cleanup_(freep) char *path = str_printf("/v2/images/%s", s->id);
        _cleanup_(json_decrefpp) json_t *image = NULL;
        const char *status;

        if (!path)
                return err_set(err, -ENOMEM, "out of memory");
        if (http_call(s->cli->http, "GET", path, NULL, &image, NULL, NULL) < 0)
                return -EAGAIN;
        status = json_get_str(image, "status", "");
        if (streq(status, "active"))
                return 1;
        if (!streq(status, "queued"))
                return -EAGAIN;
        free(take(s->resume));
        s->n_same = 0;
        return 0;
}

/* As find_out(), until the server does not answer for AWAY_S. As long as it does, this ends: who has the
 * upload finishes it, or is found to be dead. */
static int ask(struct sending *s, struct err *err)
{
        struct pacer pacer = pacer_start(AWAY_S);
        int r;

        do {
                _cleanup_(freep) char *path = str_printf("/v1/images/%s/written?from=%llu", s->id,
                                                         (unsigned long long)(s->n_same * s->chunk));
                _cleanup_(json_decrefpp) json_t *written = NULL;
                struct err late = {0};

                if (!path)
                        return err_set(err, -ENOMEM, "out of memory");
                r = http_call(s->cli->http, "GET", path, NULL, &written, NULL, err);
                if (r == 0) {
                        r = written_compare(s, written, err);
                        if (r != 0)
                                return MIN_OF(r, 0);
                        pacer = pacer_start(AWAY_S);
                        continue;
                }
                if (!http_away(r) && r != -EEXIST)
                        return r;
                if (r == -EEXIST) {
                        r = find_status(s, err);
                        if (r != -EAGAIN)
                                return r;
                        pacer.deadline_ms = clock_ms() + AWAY_S * 1000;
                }
                r = pacer_wait(&pacer, &late); /* the server's error says more than that time is over */
                if (r == -ECANCELED)
                        *err = late;
        } while (r == 0);
        return r;
}

/*
 * The connection was lost. Once the server answers: 1 the image is active, the end of the call alone was
 * lost; 0 it is to be sent, from s->resume on.
 */
static int find_out(struct sending *s, const char *what, struct err *err)
{
        int r = file_unchanged(s, err);

        if (r < 0)
                return r;
        free(take(s->resume));
        s->n_same = 0;
        s->chunk = 0;
        progress_begin(&s->progress, what, s->cli->json);
        r = ask(s, err);
        progress_end(&s->progress);
        return r;
}

/* A line that breaks again and again is left alone for a while: a second, two, ... */
static int leave_alone(int seconds, struct err *err)
{
        struct pacer pacer = pacer_start(seconds);
        struct err late = {0};
        int r;

        while ((r = pacer_wait(&pacer, &late)) == 0)
                ;
        if (r == -ETIMEDOUT)
                return 0;
        *err = late;
        return r;
}

int image_send(struct cli *cli, const char *id, const char *name, const struct sparse_input *in, int file,
               const struct stat *begin, uint64_t *ret_sent, struct err *err)
{
        _cleanup_(freep) char *what = str_printf("adding %s", name);
        _cleanup_(freep) char *comparing = str_printf("comparing what there is of %s", name);
        struct sending s = {.cli = cli, .id = id, .in = in, .file = file, .begin = begin};
        int r = 0;

        if (!what || !comparing)
                return err_set(err, -ENOMEM, "out of memory");
        for (int vain = 0; vain < TRIES;) {
                uint64_t before = s.sent;

                r = send_once(&s, what, err);
                /* what it was to go on with can be another's, or given up, by now */
                if (r == 0 || interrupted() || !(http_away(r) || (r == -EEXIST && s.resume)))
                        break;
                if (!cli->json)
                        fprintf(stderr, "wherry: %s; going on when it is back\n", err_text(err));
                vain = s.sent - before < FAR ? vain + 1 : 0;
                r = leave_alone(vain, err);
                if (r == 0)
                        r = find_out(&s, comparing, err);
                if (r != 0)
                        break;
        }
        free(s.resume);
        free(s.same);
        if (r >= 0)
                r = file_unchanged(&s, err);
        if (r >= 0)
                *ret_sent = s.sent;
        return MIN_OF(r, 0);
}
