/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/map.h"

/* Offsets: docs/formats/vdi.md. */
#define HEADER_LEN 512u
#define VERSION_1_1 0x00010001u
#define BLOCK_MIN 4096u
#define BLOCK_MAX (64u << 20)
#define ENTRY_ZERO 0xfffffffeu /* 0xffffffff: never written */

struct vdi {
        uint32_t table, data, blocks;
};

static void vdi_close(struct map *m)
{
        freep(&m->state);
}

static void kind_check(const uint8_t *h, struct image_info *info)
{
        uint32_t type = get_le32(h + 76);

        note(info, "image type", "%u (%s)", type,
             type == 1   ? "dynamic"
             : type == 2 ? "fixed"
             : type == 3 ? "undo"
             : type == 4 ? "differencing"
                         : "unknown");
        if (type == 3 || type == 4)
                refuse_number(info, "differencing", "image type", type, 2,
                              "an image must not refer to another file: merge it with its parent");
        else if (type != 1 && type != 2)
                refuse_number(info, "image-type", "image type", type, 2, "only 1 and 2 are known");
        if (!bytes_are_zero(h + 424, 16))
                refuse(info, "differencing", "link UUID", "set", "none",
                       "an image must not refer to another file: merge it with its parent");
        if (!bytes_are_zero(h + 440, 16))
                refuse(info, "differencing", "parent UUID", "set", "none",
                       "an image must not refer to another file: merge it with its parent");
}

static int vdi_open(struct map *m, bool stream, struct image_info *info, struct err *err)
{
        uint8_t h[HEADER_LEN];
        struct vdi *v;
        uint64_t needed;
        int r;

        if (m->src.size < HEADER_LEN) {
                refuse_number(info, "truncated", "header", m->src.size, HEADER_LEN,
                              "the file ends inside the header");
                return 0;
        }
        r = source_read(&m->src, h, sizeof(h), 0, err);
        if (r < 0)
                return r;
        note(info, "version", "%u.%u", get_le32(h + 68) >> 16, get_le32(h + 68) & 0xffff);
        if (get_le32(h + 68) != VERSION_1_1) {
                refuse_number(info, "version", "version", get_le32(h + 68), VERSION_1_1,
                              "only version 1.1 is known");
                return 0;
        }
        kind_check(h, info);
        m->state = v = calloc(1, sizeof(*v));
        if (!v)
                return err_set(err, -ENOMEM, "out of memory");
        *v = (struct vdi){get_le32(h + 340), get_le32(h + 344), get_le32(h + 384)};
        m->block = get_le32(h + 376);
        note(info, "block size", "%" PRIu64, m->block);
        note(info, "blocks in image", "%u", v->blocks);
        note(info, "blocks allocated", "%u", get_le32(h + 388));
        note(info, "offset of the block map", "%u", v->table);
        note(info, "offset of the data", "%u", v->data);
        if (m->block < BLOCK_MIN || m->block > BLOCK_MAX || (m->block & (m->block - 1)) != 0)
                refuse_number(info, "block-size", "block size", m->block, BLOCK_MAX,
                              "it has to be a power of 2, at least 4096");
        if (get_le32(h + 380) != 0)
                refuse_number(info, "block-size", "block extra", get_le32(h + 380), 0,
                              "extra bytes in a block are not known");
        if (get_le32(h + 360) != 512)
                refuse_number(info, "sector-size", "sector size", get_le32(h + 360), 512,
                              "only 512 is known");
        m->size = get_le64(h + 368);
        if (m->size <= FORMAT_SIZE_MAX) /* guests see whole sectors */
                m->size = (m->size + 511) & ~UINT64_C(511);
        if (info->n_refusals > 0 || !map_size_check(m, "disk size", info))
                return 0;
        needed = (m->size - 1) / m->block + 1;
        if (v->blocks < needed)
                refuse_number(info, "table-bounds", "blocks in image", v->blocks, needed,
                              "the block map is too small for the disk");
        if (v->table < HEADER_LEN || v->data % 512 != 0 || v->data < v->table + needed * 4)
                refuse_number(info, "table-bounds", "offset of the data", v->data, v->table + needed * 4,
                              "header, block map and data have to follow each other");
        m->align = 512;
        if (map_reserve(m, "header", 0, HEADER_LEN, info))
                map_reserve(m, "block map", v->table, needed * 4, info);
        return 0;
}

static int vdi_lookup(struct map *m, uint64_t block, struct mapping *ret, struct err *err)
{
        const struct vdi *v = m->state;
        uint64_t end = v->table + ((m->size - 1) / m->block + 1) * 4;
        const uint8_t *p;
        uint32_t entry;
        int r = map_table(m, v->table + block * 4, 4, end, &p, err);

        if (r < 0)
                return r;
        entry = get_le32(p);
        if (entry >= ENTRY_ZERO) {
                *ret = (struct mapping){.kind = MAPPING_HOLE};
                return 0;
        }
        *ret = (struct mapping){.kind = MAPPING_DATA, .host = v->data + entry * m->block};
        return 0;
}

const struct map_ops vdi_map_ops = {.open = vdi_open, .lookup = vdi_lookup, .close = vdi_close};
