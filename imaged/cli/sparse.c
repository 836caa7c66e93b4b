/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/sparse.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

#define CHUNK ((size_t)1 << 20)
#define BLOCK ((size_t)4096)
#define HEADER 12

struct sparse_encoder {
        struct sparse_input in;
        uint64_t offset;             /* how far the input has been looked at */
        uint64_t done;               /* bytes of data extents read */
        uint64_t chunk_offset;       /* where the chunk lies on the disk */
        size_t chunk_len, chunk_pos; /* bytes in it, and how many of them have been looked at */
        uint8_t header[HEADER];      /* of the frame that is going out */
        size_t header_left;          /* bytes of header and of data that have not gone out yet */
        const uint8_t *frame;        /* points into chunk */
        size_t frame_left;
        bool ended; /* the end frame has been made */
        uint8_t chunk[CHUNK];
};

int sparse_encoder_new(const struct sparse_input *in, struct sparse_encoder **ret, struct err *err)
{
        struct sparse_encoder *s = calloc(1, sizeof(*s));

        if (!s)
                return err_set(err, -ENOMEM, "out of memory");
        s->in = *in;
        *ret = s;
        return 0;
}

struct sparse_encoder *sparse_encoder_free(struct sparse_encoder *s)
{
        free(s);
        return NULL;
}

void sparse_encoder_freep(struct sparse_encoder **s)
{
        sparse_encoder_free(*s);
}

static bool is_zero(const uint8_t *p, size_t len)
{
        return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static void frame_make(struct sparse_encoder *s, uint64_t offset, const uint8_t *data, size_t len)
{
        uint64_t be_offset = htobe64(offset);
        uint32_t be_len = htobe32((uint32_t)len);

        memcpy(s->header, &be_offset, sizeof(be_offset));
        memcpy(s->header + 8, &be_len, sizeof(be_len));
        s->header_left = HEADER;
        s->frame = data;
        s->frame_left = len;
}

/* The next run of blocks in the chunk that are not all zeros. Returns whether there was one. */
static bool frame_from_chunk(struct sparse_encoder *s)
{
        size_t begin, end;

        for (begin = s->chunk_pos; begin < s->chunk_len; begin += BLOCK)
                if (!is_zero(s->chunk + begin, MIN_OF(BLOCK, s->chunk_len - begin)))
                        break;
        if (begin >= s->chunk_len)
                return false;
        for (end = begin; end < s->chunk_len; end += BLOCK)
                if (is_zero(s->chunk + end, MIN_OF(BLOCK, s->chunk_len - end)))
                        break;
        end = MIN_OF(end, s->chunk_len);
        s->chunk_pos = end;
        frame_make(s, s->chunk_offset + begin, s->chunk + begin, end - begin);
        return true;
}

static int chunk_fill(struct sparse_encoder *s, struct err *err)
{
        uint64_t len = 0;
        bool data = false;
        int r;

        while (s->offset < s->in.size) {
                r = s->in.extent(s->in.state, s->offset, &len, &data, err);
                if (r < 0)
                        return r;
                len = MIN_OF(len, s->in.size - s->offset);
                if (len == 0)
                        return err_set(err, -EIO, "the image has an empty extent at offset %llu",
                                       (unsigned long long)s->offset);
                if (!data) {
                        s->offset += len;
                        continue;
                }
                s->chunk_len = (size_t)MIN_OF(len, (uint64_t)CHUNK);
                s->chunk_pos = 0;
                s->chunk_offset = s->offset;
                r = s->in.read(s->in.state, s->chunk, s->chunk_len, s->offset, err);
                if (r < 0)
                        return r;
                s->offset += s->chunk_len;
                s->done += s->chunk_len;
                return 1;
        }
        return 0;
}

/* Makes the next frame; returns 0 where the stream is over. */
static int frame_next(struct sparse_encoder *s, struct err *err)
{
        int r;

        if (s->ended)
                return 0;
        while (!frame_from_chunk(s)) {
                r = chunk_fill(s, err);
                if (r < 0)
                        return r;
                if (r == 0) {
                        s->ended = true;
                        frame_make(s, s->in.size, s->chunk, 0);
                        break;
                }
        }
        return 1;
}

ssize_t sparse_encoder_read(struct sparse_encoder *s, void *buf, size_t len, struct err *err)
{
        uint8_t *to = buf;
        size_t n;
        int r;

        while (len > 0) {
                if (s->header_left == 0 && s->frame_left == 0) {
                        r = frame_next(s, err);
                        if (r < 0)
                                return r;
                        if (r == 0)
                                break;
                }
                n = MIN_OF(len, s->header_left);
                memcpy(to, s->header + HEADER - s->header_left, n);
                s->header_left -= n;
                to += n;
                len -= n;
                n = MIN_OF(len, s->frame_left);
                memcpy(to, s->frame, n);
                s->frame += n;
                s->frame_left -= n;
                to += n;
                len -= n;
        }
        return (ssize_t)(to - (uint8_t *)buf);
}

uint64_t sparse_encoder_done(const struct sparse_encoder *s)
{
        return s->done;
}

int sparse_data_size(const struct sparse_input *in, uint64_t *ret, struct err *err)
{
        uint64_t total = 0, len = 0;
        bool data = false;

        for (uint64_t at = 0; at < in->size; at += len) {
                int r = in->extent(in->state, at, &len, &data, err);

                if (r < 0)
                        return r;
                if (len == 0)
                        return err_set(err, -EIO, "the image has an empty extent at offset %llu",
                                       (unsigned long long)at);
                len = MIN_OF(len, in->size - at);
                total += data ? len : 0;
        }
        *ret = total;
        return 0;
}
