/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/map.h"

/* Offsets: docs/formats/vhd.md. All numbers are big-endian. */
#define FOOTER_LEN 512u
#define HEADER_LEN 1024u
#define TYPE_FIXED 2u
#define TYPE_DYNAMIC 3u
#define TYPE_DIFFERENCING 4u
#define BLOCK_MIN 4096u
#define BLOCK_MAX (16u << 20)
#define ENTRY_FREE 0xffffffffu
#define CHS_SECTORS_MAX (UINT64_C(65535) * 16 * 255)

struct vhd {
        uint64_t table;
};

static void vhd_close(struct map *m)
{
        freep(&m->state);
}

/* The ones' complement of the sum of all bytes but those of the checksum itself. */
static bool checksum_fits(const uint8_t *p, size_t len, size_t at)
{
        uint32_t sum = 0;

        for (size_t i = 0; i < len; i++)
                if (i < at || i >= at + 4)
                        sum += p[i];
        return CHECKSUMS_IGNORED || (get_be32(p + at) == ~sum);
}

static void footer_note(const uint8_t *f, struct image_info *info)
{
        uint32_t type = get_be32(f + 60);
        char app[8];

        text_clean(app, sizeof(app), f + 28, 4);
        note(info, "disk type", "%u (%s)", type,
             type == TYPE_FIXED          ? "fixed"
             : type == TYPE_DYNAMIC      ? "dynamic"
             : type == TYPE_DIFFERENCING ? "differencing"
                                         : "unknown");
        note(info, "creator application", "%s", app);
        note(info, "current size", "%" PRIu64, get_be64(f + 48));
        note(info, "disk geometry", "%u/%u/%u", get_be16(f + 56), f[58], f[59]);
        note(info, "saved state", "%u", f[84]);
}

/*
 * Virtual PC and QEMU before force_size show the guest what the geometry says, everybody else the current
 * size; the largest geometry says only that the disk is larger.
 */
static uint64_t disk_size(const uint8_t *f)
{
        uint64_t chs = (uint64_t)get_be16(f + 56) * f[58] * f[59];

        if ((memcmp(f + 28, "vpc ", 4) == 0 || memcmp(f + 28, "qemu", 4) == 0) && chs < CHS_SECTORS_MAX)
                return chs * 512;
        return get_be64(f + 48);
}

static bool footer_check(const uint8_t *f, const char *field, struct image_info *info)
{
        uint32_t type = get_be32(f + 60);

        if (memcmp(f, "conectix", 8) != 0) {
                refuse(info, "footer", field, "no cookie", "conectix", "there is no VHD footer");
                return false;
        }
        footer_note(f, info);
        if (!checksum_fits(f, FOOTER_LEN, 64))
                refuse_number(info, "checksum", field, get_be32(f + 64), 0,
                              "the footer's checksum is wrong");
        if (get_be32(f + 12) >> 16 != 1)
                refuse_number(info, "version", "file format version", get_be32(f + 12), 0x10000,
                              "only version 1 is known");
        if (type == TYPE_DIFFERENCING)
                refuse_number(info, "differencing", "disk type", type, TYPE_DYNAMIC,
                              "an image must not refer to another file: merge it with its parent");
        else if (type != TYPE_FIXED && type != TYPE_DYNAMIC)
                refuse_number(info, "image-type", "disk type", type, TYPE_DYNAMIC,
                              "only 2 (fixed) and 3 (dynamic) are known");
        if (f[84] != 0)
                refuse_number(info, "saved-state", "saved state", f[84], 0,
                              "the disk belongs to a suspended guest");
        return info->n_refusals == 0;
}

static bool dynamic_header_check(struct map *m, const uint8_t *h, struct image_info *info)
{
        struct vhd *v = m->state;
        uint64_t entries = get_be32(h + 28), needed;

        if (memcmp(h, "cxsparse", 8) != 0) {
                refuse(info, "header", "dynamic disk header", "no cookie", "cxsparse",
                       "there is no dynamic disk header where the footer says");
                return false;
        }
        v->table = get_be64(h + 16);
        m->block = get_be32(h + 32);
        note(info, "block size", "%" PRIu64, m->block);
        note(info, "max table entries", "%" PRIu64, entries);
        note(info, "table offset", "%" PRIu64, v->table);
        if (!checksum_fits(h, HEADER_LEN, 36))
                refuse_number(info, "checksum", "dynamic disk header", get_be32(h + 36), 0,
                              "the header's checksum is wrong");
        if (m->block < BLOCK_MIN || m->block > BLOCK_MAX || (m->block & (m->block - 1)) != 0) {
                refuse_number(info, "block-size", "block size", m->block, BLOCK_MAX,
                              "it has to be a power of 2, at least 4096");
                return false;
        }
        m->align = 512;
        m->data_offset = (m->block / 512 / 8 + 511) & ~UINT64_C(511);
        if (!map_size_check(m, "current size", info))
                return false;
        needed = (m->size - 1) / m->block + 1;
        if (entries < needed)
                refuse_number(info, "table-bounds", "max table entries", entries, needed,
                              "the block table is too small for the disk");
        else if (v->table % 512 != 0)
                refuse_number(info, "table-bounds", "table offset", v->table, 512,
                              "it has to be a multiple of 512");
        else
                map_reserve(m, "table offset", v->table, needed * 4, info);
        return true;
}

/* The first 512 bytes are the footer's copy in a dynamic disk; both have to say the same. */
static int dynamic_open(struct map *m, const uint8_t *copy, bool stream, struct image_info *info,
                        struct err *err)
{
        uint64_t at = get_be64(copy + 16);
        uint8_t h[HEADER_LEN], footer[FOOTER_LEN];
        int r;

        m->size = disk_size(copy);
        if (!map_reserve(m, "footer copy", 0, FOOTER_LEN, info) ||
            !map_reserve(m, "dynamic disk header", at, HEADER_LEN, info))
                return 0;
        if (at < FOOTER_LEN) {
                refuse_number(info, "header", "data offset", at, FOOTER_LEN, "it lies in the footer's copy");
                return 0;
        }
        r = source_read(&m->src, h, sizeof(h), at, err);
        if (r < 0 || !dynamic_header_check(m, h, info) || info->n_refusals > 0 || stream)
                return r;
        r = source_read(&m->src, footer, sizeof(footer), m->src.size - FOOTER_LEN, err);
        if (r == 0 && memcmp(footer, copy, FOOTER_LEN) != 0)
                refuse(info, "footer", "footer", "differs", "its copy",
                       "the footer at the end and its copy at the beginning differ: the file is cut or "
                       "damaged");
        return r;
}

static int vhd_open(struct map *m, bool stream, struct image_info *info, struct err *err)
{
        uint8_t f[FOOTER_LEN];
        bool dynamic;
        int r;

        if (m->src.size < 2 * FOOTER_LEN || m->src.size % 512 != 0) {
                refuse_number(info, "truncated", "file size", m->src.size, 2 * FOOTER_LEN,
                              "it has to be a multiple of 512, with a footer");
                return 0;
        }
        m->state = calloc(1, sizeof(struct vhd));
        if (!m->state)
                return err_set(err, -ENOMEM, "out of memory");
        r = source_read(&m->src, f, sizeof(f), 0, err);
        if (r < 0)
                return r;
        dynamic = memcmp(f, "conectix", 8) == 0;
        m->plain = !dynamic;
        m->block = 2 << 20;
        if (!dynamic) {
                m->size = m->src.size - FOOTER_LEN;
                if (!map_size_check(m, "current size", info) || stream)
                        return 0; /* the stream looks at the footer when it comes: vhd_fixed_end() */
                r = source_read(&m->src, f, sizeof(f), m->size, err);
                if (r < 0)
                        return r;
                vhd_fixed_end(f, m->src.size, info);
                return 0;
        }
        if (!footer_check(f, "footer copy", info))
                return 0;
        if (get_be32(f + 60) != TYPE_DYNAMIC) {
                refuse_number(info, "image-type", "disk type", get_be32(f + 60), TYPE_DYNAMIC,
                              "a fixed disk has no footer at its beginning");
                return 0;
        }
        return dynamic_open(m, f, stream, info, err);
}

void vhd_fixed_end(const uint8_t *tail, uint64_t file_size, struct image_info *info)
{
        if (!footer_check(tail, "footer", info))
                return;
        if (get_be32(tail + 60) != TYPE_FIXED)
                refuse_number(info, "image-type", "disk type", get_be32(tail + 60), TYPE_FIXED,
                              "the file does not begin as a dynamic disk does");
        if (get_be64(tail + 48) != file_size - FOOTER_LEN)
                refuse_number(info, "truncated", "current size", get_be64(tail + 48), file_size - FOOTER_LEN,
                              "the disk is not what lies before the footer");
}

static int vhd_lookup(struct map *m, uint64_t block, struct mapping *ret, struct err *err)
{
        const struct vhd *v = m->state;
        const uint8_t *p;
        uint32_t entry;
        int r =
            map_table(m, v->table + block * 4, 4, v->table + ((m->size - 1) / m->block + 1) * 4, &p, err);

        if (r < 0)
                return r;
        entry = get_be32(p);
        if (entry == ENTRY_FREE) {
                *ret = (struct mapping){.kind = MAPPING_HOLE};
                return 0;
        }
        *ret = (struct mapping){.kind = MAPPING_DATA, .host = (uint64_t)entry * 512};
        return 0;
}

const struct map_ops vhd_map_ops = {.open = vhd_open, .lookup = vhd_lookup, .close = vhd_close};
