/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/intake.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/formats.h"
#include "imaged/sparse.h"
#include "imaged/upload.h"

#define PIECE ((size_t)1 << 20)
#define BLOCK ((size_t)4096)

static bool is_zero(const uint8_t *p, size_t len)
{
        return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int push_frame(struct upload *up, const uint8_t *data, size_t len, uint64_t offset, struct err *err)
{
        const uint64_t at = htobe64(offset);
        const uint32_t n = htobe32((uint32_t)len);
        uint8_t header[SPARSE_HEADER];
        int r;

        memcpy(header, &at, sizeof(at));
        memcpy(header + sizeof(at), &n, sizeof(n));
        r = upload_push(up, header, sizeof(header), err);
        return r == 0 && len > 0 ? upload_push(up, data, len, err) : r;
}

static int push_data(struct upload *up, const uint8_t *buf, size_t len, uint64_t offset, struct err *err)
{
        for (size_t at = 0; at < len;) {
                size_t end = at;
                int r;

                while (end < len && !is_zero(buf + end, MIN_OF(BLOCK, len - end)))
                        end += MIN_OF(BLOCK, len - end);
                r = end > at ? push_frame(up, buf + at, end - at, offset + at, err) : 0;
                if (r < 0)
                        return r;
                at = MIN_OF(len, end + BLOCK); /* what is there is a block of zeros, or the end */
        }
        return 0;
}

int intake_image(struct image *img, struct upload *up, int (*look)(void *arg, struct err *err), void *arg,
                 struct err *err)
{
        const uint64_t size = image_size(img);
        _cleanup_(freep) char *type = str_printf(SPARSE_TYPE "; size=%llu", (unsigned long long)size);
        _cleanup_(freep) uint8_t *buf = malloc(PIECE);
        uint64_t len = 0;
        bool data = false;
        int r =
            type && buf ? upload_format(up, type, UINT64_MAX, err) : err_set(err, -ENOMEM, "out of memory");

        for (uint64_t at = 0; r == 0 && at < size; at += len) {
                r = look ? look(arg, err) : 0;
                if (r == 0) /* also between holes: is it still wanted? */
                        r = upload_push(up, NULL, 0, err);
                if (r == 0)
                        r = image_extent(img, at, &len, &data, err);
                if (r < 0)
                        return r;
                if (data) {
                        len = MIN_OF(len, (uint64_t)PIECE - at % PIECE);
                        r = image_read(img, buf, (size_t)len, at, err);
                        if (r == 0)
                                r = push_data(up, buf, (size_t)len, at, err);
                }
                upload_progress(up, at + len, size);
        }
        return r < 0 ? r : push_frame(up, NULL, 0, size, err);
}
