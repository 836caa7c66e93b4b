/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"

/*
 * Raw disks and ISO images: guest bytes are the file's bytes, and zeros up to the last sector's end. Zeros
 * that are no hole of the source are found by looking: a window of the file is kept, which the extents and
 * reads that follow are served from.
 */
#define WINDOW (1024 * 1024)
#define BLOCK 4096u

struct raw {
        uint64_t start; /* of the window */
        size_t len;     /* valid bytes; 0: none */
        uint8_t window[WINDOW];
};

static void raw_close(void *state)
{
        free(state);
}

static int raw_read(struct image *img, uint8_t *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct raw *raw = img->state;
        size_t from_file =
            offset < img->src.size ? (size_t)MIN_OF((uint64_t)len, img->src.size - offset) : 0;

        memset(buf + from_file, 0, len - from_file);
        if (offset >= raw->start && offset - raw->start <= raw->len &&
            from_file <= raw->len - (size_t)(offset - raw->start)) {
                memcpy(buf, raw->window + (offset - raw->start), from_file);
                return 0;
        }
        return source_read(&img->src, buf, from_file, offset, err);
}

static int window_fill(struct image *img, uint64_t offset, struct err *err)
{
        struct raw *raw = img->state;
        size_t have = (size_t)MIN_OF((uint64_t)WINDOW, img->src.size - offset);
        int r;

        if (offset >= raw->start && offset - raw->start < raw->len)
                return 0;
        raw->len = 0; /* until the read has succeeded */
        r = source_read(&img->src, raw->window, have, offset, err);
        if (r < 0)
                return r;
        raw->start = offset;
        raw->len = have;
        return 0;
}

static int raw_extent(struct image *img, uint64_t offset, uint64_t *ret_len, bool *ret_data, struct err *err)
{
        struct raw *raw = img->state;
        uint64_t left = img->size - offset, hole = 0;
        const uint8_t *p;
        size_t have, at;
        bool zero = false;
        int r;

        if (offset >= img->src.size)
                hole = left;
        else
                hole = source_hole(&img->src, offset);
        if (hole > 0) {
                *ret_len = MIN_OF(hole, left);
                *ret_data = false;
                return 0;
        }
        r = window_fill(img, offset, err);
        if (r < 0)
                return r;
        p = raw->window + (offset - raw->start);
        have = raw->len - (size_t)(offset - raw->start);
        for (at = 0; at < have;) {
                size_t n = MIN_OF(have - at, (size_t)(BLOCK - (offset + at) % BLOCK));
                bool z = bytes_are_zero(p + at, n);

                if (at == 0)
                        zero = z;
                else if (z != zero)
                        break;
                at += n;
        }
        *ret_len = at;
        *ret_data = !zero;
        return 0;
}

static const struct image_ops raw_ops = {raw_close, raw_read, raw_extent};

int raw_open(struct image *img, struct err *err)
{
        img->state = calloc(1, sizeof(struct raw));
        if (!img->state)
                return err_set(err, -ENOMEM, "out of memory");
        img->ops = &raw_ops;
        return 0;
}
