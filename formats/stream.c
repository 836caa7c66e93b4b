/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/map.h"

#define OPEN_ENDED                                                                                          \
        (UINT64_C(1) << 44) /* stands for a size that only the end tells: a whole number of blocks */

/*
 * The first FORMAT_HEAD_LEN bytes (or all, if there are fewer) are gathered and checked as image_inspect()
 * does it; then the sink begins, and the bytes go on to the format's part.
 */
struct image_stream {
        enum image_format format;
        uint64_t file_size; /* UINT64_MAX: unknown */
        uint64_t pushed;
        int failed; /* the error of the call that failed: nothing goes on after it */
        uint8_t *head;
        size_t head_len;
        bool began;
        struct image_info info;
        struct stream_out out;
        struct stream_qcow2 *qcow2;
        struct stream_map *map;
        uint8_t tail[TAIL_LEN]; /* the last bytes so far: no raw disk ends as a VHD does */
};

/* Hands buf to the sink without the blocks that are zeros; guest is where one begins, or within the only
 * one.
 */
static int out_run(struct stream_out *out, const uint8_t *buf, size_t len, uint64_t guest, struct err *err)
{
        size_t run = 0;
        int r = 0;

        for (size_t at = 0, n; at < len && r >= 0; at += n) {
                n = MIN_OF(len - at, (size_t)STREAM_BLOCK);
                if (bytes_are_zero(buf + at, n)) {
                        if (run < at)
                                r = out->sink.data(out->sink.state, buf + run, at - run, guest + run, err);
                        run = at + n;
                }
        }
        return r < 0 || run == len ? r
                                   : out->sink.data(out->sink.state, buf + run, len - run, guest + run, err);
}

int stream_out_flush(struct stream_out *out, struct err *err)
{
        size_t len = out->len;

        out->len = 0;
        return out_run(out, out->block, len, out->start, err);
}

int stream_out_add(struct stream_out *out, const uint8_t *buf, size_t len, uint64_t guest, struct err *err)
{
        while (len > 0) {
                size_t within = (size_t)(guest % STREAM_BLOCK), n = len - len % STREAM_BLOCK;
                int r = 0;

                if (out->len > 0 && guest != out->start + out->len)
                        r = stream_out_flush(out, err);
                if (r >= 0 && within == 0 && n > 0) {
                        r = out_run(out, buf, n, guest, err);
                } else if (r >= 0) {
                        n = MIN_OF(len, STREAM_BLOCK - within);
                        if (out->len == 0)
                                out->start = guest;
                        memcpy(out->block + out->len, buf, n);
                        out->len += n;
                        if (within + n == STREAM_BLOCK)
                                r = stream_out_flush(out, err);
                }
                if (r < 0)
                        return r;
                buf += n;
                len -= n;
                guest += n;
        }
        return 0;
}

struct image_stream *image_stream_free(struct image_stream *st)
{
        if (!st)
                return NULL;
        stream_qcow2_free(st->qcow2);
        stream_map_free(st->map);
        free(st->head);
        free(st);
        return NULL;
}

int image_stream_new(enum image_format format, uint64_t file_size, const struct image_sink *sink,
                     struct image_stream **ret, struct err *err)
{
        struct image_stream *st;

        if ((unsigned)format >= IMAGE_FORMAT_MAX)
                return err_set(err, -EINVAL, "unknown image format %d", (int)format);
        if (format == IMAGE_OVA)
                return err_set(
                    err, -EBADMSG,
                    "table-order: an OVA has to be read at random: let `wherry image add` convert it");
        if (file_size == UINT64_MAX && map_ops_of(format))
                return err_set(err, -EINVAL, "the size of a %s image has to be known before its first byte",
                               image_format_name(format));
        st = calloc(1, sizeof(*st));
        if (st)
                st->head = malloc(FORMAT_HEAD_LEN);
        if (!st || !st->head) {
                image_stream_free(st);
                return err_set(err, -ENOMEM, "out of memory");
        }
        st->format = format;
        st->file_size = file_size;
        st->out.sink = *sink;
        *ret = st;
        return 0;
}

static int body_push(struct image_stream *st, const uint8_t *buf, size_t len, uint64_t offset,
                     struct err *err)
{
        if (st->map)
                return stream_map_push(st->map, buf, len, err);
        if (st->qcow2)
                return stream_qcow2_push(st->qcow2, buf, len, err);
        return stream_out_add(&st->out, buf, len, offset, err);
}

/* The head is complete: check it, begin, and pass it on. */
static int begin(struct image_stream *st, struct err *err)
{
        bool open_ended = st->file_size == UINT64_MAX && st->format != IMAGE_QCOW2;
        struct qcow2 q;
        int r;

        st->began = true;
        /* What the head says of the size can be compared with it only at the end; see finish(). */
        head_check(st->head, st->head_len, NULL, open_ended ? OPEN_ENDED : st->file_size, (int)st->format,
                   &st->info, &q);
        if (st->info.n_refusals > 0)
                return refusal_error(&st->info, err);
        if (map_ops_of(st->format)) {
                r = stream_map_new(st->file_size, &st->info, &st->out, &st->map, err);
                return r < 0 ? r : body_push(st, st->head, st->head_len, 0, err);
        }
        r = st->out.sink.begin(st->out.sink.state, open_ended ? UINT64_MAX : st->info.virtual_size, err);
        if (r < 0)
                return r;
        if (st->format == IMAGE_QCOW2) {
                r = stream_qcow2_new(&q, st->file_size, &st->out, &st->qcow2, err);
                if (r < 0)
                        return r;
        }
        return body_push(st, st->head, st->head_len, 0, err);
}

static void tail_keep(uint8_t *tail, const uint8_t *buf, size_t len)
{
        size_t n = MIN_OF(len, (size_t)TAIL_LEN);

        memmove(tail, tail + n, TAIL_LEN - n);
        memcpy(tail + TAIL_LEN - n, buf + len - n, n);
}

static int push(struct image_stream *st, const uint8_t *buf, size_t len, struct err *err)
{
        if (len > st->file_size - st->pushed)
                return err_set(err, -EBADMSG, "more bytes than the announced %" PRIu64, st->file_size);
        tail_keep(st->tail, buf, len);
        if (!st->began) {
                size_t n = MIN_OF(len, FORMAT_HEAD_LEN - st->head_len);

                memcpy(st->head + st->head_len, buf, n);
                st->head_len += n;
                st->pushed += n;
                buf += n;
                len -= n;
                if (st->head_len == FORMAT_HEAD_LEN) {
                        int r = begin(st, err);

                        if (r < 0)
                                return r;
                }
        }
        if (len > 0) {
                int r = body_push(st, buf, len, st->pushed, err);

                if (r < 0)
                        return r;
                st->pushed += len;
        }
        return 0;
}

int image_stream_push(struct image_stream *st, const void *buf, size_t len, struct err *err)
{
        if (st->failed)
                return err_set(err, st->failed, "the image was refused before");
        if (len > 0)
                st->failed = push(st, buf, len, err);
        return st->failed;
}

static int finish(struct image_stream *st, struct err *err)
{
        bool open_ended = st->began && st->file_size == UINT64_MAX && !st->qcow2;
        struct qcow2 q;
        int r;

        if (st->file_size != UINT64_MAX && st->pushed != st->file_size)
                return err_set(err, -EBADMSG,
                               "truncated: %" PRIu64 " bytes came, %" PRIu64 " were announced", st->pushed,
                               st->file_size);
        st->file_size = st->pushed;
        if (!st->began) {
                r = begin(st, err);
                if (r < 0)
                        return r;
        }
        if (open_ended) {
                memset(&st->info, 0, sizeof(st->info));
                head_check(st->head, st->head_len, NULL, st->file_size, (int)st->format, &st->info, &q);
                if (st->info.n_refusals > 0)
                        return refusal_error(&st->info, err);
        }
        st->info.file_size = st->pushed;
        if (st->map)
                r = stream_map_finish(st->map, st->tail, err);
        else if (tail_is_vhd(st->tail))
                r = err_set(err, -EBADMSG,
                            "polyglot: the file ends as a VHD does: programs would not agree what it is");
        else
                r = st->qcow2 ? stream_qcow2_finish(st->qcow2, err) : 0;
        if (r < 0)
                return r;
        return stream_out_flush(&st->out, err);
}

int image_stream_finish(struct image_stream *st, struct image_info *ret, struct err *err)
{
        if (st->failed)
                return err_set(err, st->failed, "the image was refused before");
        st->failed = finish(st, err);
        if (st->failed)
                return st->failed;
        if (ret)
                *ret = st->info;
        st->failed = -EINVAL; /* nothing may follow the end */
        return 0;
}
