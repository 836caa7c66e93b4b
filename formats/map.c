/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/internal.h"

#define WINDOW ((size_t)64 * 1024)
#define HOLE_ALIGN 4096u
#define PACKED_MAX ((uint64_t)5 << 20)

const struct map_ops *map_ops_of(enum image_format f)
{
        static const struct map_ops *const all[IMAGE_FORMAT_MAX] = {
            [IMAGE_VMDK] = &vmdk_map_ops,
            [IMAGE_VDI] = &vdi_map_ops,
            [IMAGE_VHD] = &vhd_map_ops,
            [IMAGE_VHDX] = &vhdx_map_ops,
        };

        return (unsigned)f < IMAGE_FORMAT_MAX ? all[f] : NULL;
}

int map_open(struct map *m, const struct source *src, bool stream, struct image_info *info, struct err *err)
{
        int r;

        *m = (struct map){.src = *src, .ops = map_ops_of(info->format), .unpacked = UINT64_MAX};
        m->window.buf = malloc(WINDOW);
        if (!m->window.buf)
                return err_set(err, -ENOMEM, "out of memory");
        r = m->ops->open(m, stream, info, err);
        if (r == 0 && info->n_refusals == 0)
                info->virtual_size = m->size;
        return r;
}

void map_close(struct map *m)
{
        if (m->ops && m->ops->close && m->state)
                m->ops->close(m);
        free(m->window.buf);
        free(m->cluster);
        *m = (struct map){0};
}

int map_table(struct map *m, uint64_t offset, size_t n, uint64_t limit, const uint8_t **ret, struct err *err)
{
        struct window *w = &m->window;

        if (offset < w->at || offset - w->at > w->len || n > w->len - (size_t)(offset - w->at)) {
                size_t len = (size_t)MIN_OF((uint64_t)WINDOW, limit - offset);
                int r;

                w->len = 0;
                r = source_read(&m->src, w->buf, len, offset, err);
                if (r < 0)
                        return r;
                w->at = offset;
                w->len = len;
        }
        *ret = w->buf + (offset - w->at);
        return 0;
}

bool map_size_check(const struct map *m, const char *field, struct image_info *info)
{
        if (m->size == 0 || m->size > FORMAT_SIZE_MAX || m->size % 512 != 0) {
                refuse_number(info, "size", field, m->size, FORMAT_SIZE_MAX,
                              "the disk's size has to be a multiple of 512, above 0 and up to the limit");
                return false;
        }
        if ((m->size - 1) / m->block + 1 > MAP_BLOCKS_MAX) {
                refuse_number(info, "too-many-blocks", field, (m->size - 1) / m->block + 1, MAP_BLOCKS_MAX,
                              "convert with larger blocks");
                return false;
        }
        return true;
}

bool map_reserve(struct map *m, const char *field, uint64_t start, uint64_t len, struct image_info *info)
{
        if (start > m->src.size || len > m->src.size - start) {
                refuse_number(info, "truncated", field, start, m->src.size,
                              "it does not lie inside the file");
                return false;
        }
        if (m->n_reserved > 0 &&
            m->reserved[m->n_reserved - 1].start + m->reserved[m->n_reserved - 1].len == start) {
                m->reserved[m->n_reserved - 1].len += len;
                return true;
        }
        if (m->n_reserved == MAP_RESERVED_MAX) {
                refuse_number(info, "too-many-tables", field, m->n_reserved, MAP_RESERVED_MAX,
                              "the tables are scattered over the file: convert it with qemu-img first");
                return false;
        }
        m->reserved[m->n_reserved].start = start;
        m->reserved[m->n_reserved++].len = len;
        return true;
}

uint64_t map_block_len(const struct map *m, uint64_t block)
{
        return MIN_OF(m->block, m->size - block * m->block);
}

/* --- reading --- */

static void map_image_close(void *state)
{
        map_close(state);
        free(state);
}

static int unpack(struct map *m, uint64_t block, uint64_t host, struct err *err)
{
        _cleanup_(freep) uint8_t *packed = NULL;
        uint64_t len;
        int r;

        if (m->unpacked == block)
                return 0;
        m->unpacked = UINT64_MAX;
        r = m->ops->packed_len(m, block, host, &len, err);
        if (r < 0)
                return r;
        if (len > PACKED_MAX)
                return err_set(err, -EBADMSG, "guest offset %" PRIu64 ": %" PRIu64 " compressed bytes",
                               block * m->block, len);
        packed = malloc((size_t)len);
        if (!packed)
                return err_set(err, -ENOMEM, "out of memory");
        r = source_read(&m->src, packed, (size_t)len, host, err);
        if (r == 0)
                r = m->ops->unpack(m, block, packed, (size_t)len, err);
        if (r < 0)
                return err_wrap(err, r, "guest offset %" PRIu64, block * m->block);
        m->unpacked = block;
        return 0;
}

static int map_read(struct image *img, uint8_t *buf, size_t len, uint64_t offset, struct err *err)
{
        struct map *m = img->state;

        while (len > 0) {
                uint64_t block = offset / m->block, within = offset % m->block;
                size_t n = (size_t)MIN_OF((uint64_t)len, m->block - within);
                struct mapping at = {0};
                int r = m->ops->lookup(m, block, &at, err);

                if (r < 0)
                        return err_wrap(err, r, "guest offset %" PRIu64, offset);
                switch (at.kind) {
                case MAPPING_HOLE:
                        memset(buf, 0, n);
                        break;
                case MAPPING_DATA:
                        r = source_read(&m->src, buf, n, at.host + m->data_offset + within, err);
                        break;
                case MAPPING_PACKED:
                        r = unpack(m, block, at.host, err);
                        if (r == 0)
                                memcpy(buf, m->cluster + within, n);
                        break;
                }
                if (r < 0)
                        return r;
                buf += n;
                len -= n;
                offset += n;
        }
        return 0;
}

static int map_extent(struct image *img, uint64_t offset, uint64_t *ret_len, bool *ret_data, struct err *err)
{
        struct map *m = img->state;
        uint64_t at = offset;
        bool data = false;

        while (at < m->size && !(data && at - offset >= EXTENT_DATA)) {
                uint64_t block = at / m->block, within = at % m->block, len, hole = 0;
                struct mapping found = {0};
                bool d;
                int r = m->ops->lookup(m, block, &found, err);

                if (r < 0)
                        return err_wrap(err, r, "guest offset %" PRIu64, at);
                d = found.kind != MAPPING_HOLE;
                len = (d ? 1 : MAX_OF(found.blocks, UINT64_C(1))) * m->block - within;
                if (found.kind == MAPPING_DATA)
                        hole = source_hole(&m->src, found.host + m->data_offset + within);
                if (hole < len) /* it ends where the guest's blocks do, though they lie askew in the file */
                        hole -= MIN_OF(hole, (at + hole) % HOLE_ALIGN);
                if (hole > 0) {
                        d = false;
                        len = MIN_OF(len, hole);
                } else if (found.kind == MAPPING_DATA) { /* a block may be long, and mostly a hole */
                        len = MIN_OF(len, EXTENT_DATA - at % EXTENT_DATA);
                }
                if (at == offset)
                        data = d;
                else if (d != data)
                        break;
                at += len;
        }
        *ret_len = MIN_OF(at, m->size) - offset;
        *ret_data = data;
        return 0;
}

static const struct image_ops map_image_ops = {map_image_close, map_read, map_extent};

int map_image_open(struct image *img, const struct image_info *info, struct err *err)
{
        struct map *m = calloc(1, sizeof(*m));
        struct image_info now = {.format = info->format, .file_size = img->src.size};
        int r;

        if (!m)
                return err_set(err, -ENOMEM, "out of memory");
        r = map_open(m, &img->src, false, &now, err);
        if (r == 0 && now.n_refusals > 0)
                r = refusal_error(&now, err);
        if (r == 0 && m->size != img->size)
                r = err_set(err, -EBADMSG, "the image has changed since it was inspected");
        if (r < 0 || m->plain) {
                map_image_close(m);
                if (r < 0)
                        return r;
                img->src.size = MIN_OF(img->src.size, img->size);
                return raw_open(img, err);
        }
        img->state = m;
        img->ops = &map_image_ops;
        return 0;
}
