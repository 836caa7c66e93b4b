/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/vmdk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/map.h"

/* Offsets: docs/formats/vmdk.md. All numbers are little-endian, places in sectors of 512 bytes. */
#define SECTOR 512u
#define FLAG_ZEROED_GRAIN (1u << 2)
#define FLAG_COMPRESSED (1u << 16)
#define FLAG_MARKERS (1u << 17)
#define GRAIN_MIN 8u
#define GRAIN_MAX 4096u
#define GTES_MAX 512u
#define DIRECTORY_MAX (UINT64_C(1) << 19) /* entries: 2 MiB */
#define DESCRIPTOR_MAX (64u * 1024)
#define MARKER_LEN 12u
#define AT_END UINT64_MAX /* the directory's place is in the footer */

struct vmdk {
        uint32_t flags, gtes;
        uint64_t grain, capacity; /* sectors */
        uint64_t overhead;        /* bytes */
        uint64_t directory_at;    /* bytes */
        uint64_t n_tables;
        uint8_t *directory;
};

static void vmdk_close(struct map *m)
{
        struct vmdk *v = m->state;

        free(v->directory);
        freep(&m->state);
}

static bool geometry_check(struct map *m, const uint8_t *h, struct image_info *info)
{
        struct vmdk *v = m->state;
        uint32_t version = get_le32(h + 4);

        v->flags = get_le32(h + 8);
        v->capacity = get_le64(h + 12);
        v->grain = get_le64(h + 20);
        v->gtes = get_le32(h + 44);
        info->version = version;
        note(info, "version", "%u", version);
        note(info, "flags", "0x%x", v->flags);
        note(info, "capacity", "%" PRIu64, v->capacity);
        note(info, "grainSize", "%" PRIu64, v->grain);
        note(info, "numGTEsPerGT", "%u", v->gtes);
        note(info, "uncleanShutdown", "%u", h[72]);
        note(info, "compressAlgorithm", "%u", get_le16(h + 77));
        if (version < 1 || version > 3)
                refuse_number(info, "version", "version", version, 3, "only versions 1 to 3 are known");
        if (v->grain < GRAIN_MIN || v->grain > GRAIN_MAX || (v->grain & (v->grain - 1)) != 0)
                refuse_number(info, "grain-size", "grainSize", v->grain, GRAIN_MAX,
                              "it has to be a power of 2, at least 8 sectors");
        if (v->gtes == 0 || v->gtes > GTES_MAX)
                refuse_number(info, "table-bounds", "numGTEsPerGT", v->gtes, GTES_MAX,
                              "a grain table has 1 to 512 entries");
        if (v->capacity == 0 || v->capacity > FORMAT_SIZE_MAX / SECTOR)
                refuse_number(info, "size", "capacity", v->capacity, FORMAT_SIZE_MAX / SECTOR,
                              "the disk is empty or too large");
        if ((v->flags & 1) && memcmp(h + 73, "\n \r\n", 4) != 0)
                refuse(info, "corrupt", "end of line characters", "changed", "\\n, space, \\r, \\n",
                       "the file was damaged by a transfer as text");
        if (!(v->flags & FLAG_COMPRESSED) != !(v->flags & FLAG_MARKERS))
                refuse_number(info, "unknown-feature", "flags", v->flags, FLAG_COMPRESSED | FLAG_MARKERS,
                              "compressed grains and markers go together");
        if (get_le16(h + 77) != (v->flags & FLAG_COMPRESSED ? 1 : 0))
                refuse_number(info, "compression-type", "compressAlgorithm", get_le16(h + 77), 1,
                              "1 (deflate) exactly where grains are compressed");
        if (info->n_refusals > 0)
                return false;
        m->size = v->capacity * SECTOR;
        m->block = v->grain * SECTOR;
        m->align = SECTOR;
        v->n_tables = (v->capacity - 1) / (v->grain * v->gtes) + 1;
        if (v->n_tables > DIRECTORY_MAX) {
                refuse_number(info, "table-bounds", "grain directory", v->n_tables, DIRECTORY_MAX,
                              "the grain directory is too large");
                return false;
        }
        return map_size_check(m, "capacity", info);
}

static int descriptor_read(struct map *m, const uint8_t *h, struct image_info *info, struct err *err)
{
        const struct vmdk *v = m->state;
        uint64_t at = get_le64(h + 28), len = get_le64(h + 36);
        _cleanup_(freep) uint8_t *text = NULL;
        int r;

        if (at == 0 || len == 0) {
                refuse(info, "extents", "descriptorOffset", "0", "a descriptor",
                       "this is one extent of a disk of several files: convert it with qemu-img");
                return 0;
        }
        if (len > DESCRIPTOR_MAX / SECTOR || at > m->src.size / SECTOR) {
                refuse_number(info, "descriptor", "descriptorSize", len, DESCRIPTOR_MAX / SECTOR,
                              "the descriptor is too large, or not in the file");
                return 0;
        }
        if (!map_reserve(m, "descriptorOffset", at * SECTOR, len * SECTOR, info))
                return 0;
        text = malloc((size_t)len * SECTOR);
        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        r = source_read(&m->src, text, (size_t)len * SECTOR, at * SECTOR, err);
        if (r == 0)
                vmdk_descriptor_check((const char *)text, (size_t)len * SECTOR, v->capacity, info);
        return r;
}

static int directory_read(struct map *m, uint64_t sector, struct image_info *info, struct err *err)
{
        struct vmdk *v = m->state;
        size_t len = (size_t)v->n_tables * 4;

        note(info, "gdOffset", "%" PRIu64, sector);
        if (sector == 0 || sector > m->src.size / SECTOR) {
                refuse_number(info, "table-bounds", "gdOffset", sector, m->src.size / SECTOR,
                              "the grain directory does not lie inside the file");
                return 0;
        }
        v->directory_at = sector * SECTOR;
        if (!map_reserve(m, "gdOffset", v->directory_at, len, info))
                return 0;
        v->directory = malloc(len);
        if (!v->directory)
                return err_set(err, -ENOMEM, "out of memory");
        return source_read(&m->src, v->directory, len, v->directory_at, err);
}

/* The footer: a marker, a second header with the directory's place, the end marker; a sector each. */
static int footer_read(struct map *m, uint8_t *h, struct image_info *info, struct err *err)
{
        uint8_t f[3 * SECTOR];
        int r;

        if (m->src.size < 4 * SECTOR || m->src.size % SECTOR != 0) {
                refuse_number(info, "truncated", "footer", m->src.size, 4 * SECTOR,
                              "the file is too short or no whole sectors");
                return 0;
        }
        r = source_read(&m->src, f, sizeof(f), m->src.size - sizeof(f), err);
        if (r < 0)
                return r;
        if (get_le32(f + 8) != 0 || get_le32(f + 12) != 3 || memcmp(f + SECTOR, "KDMV", 4) != 0 ||
            !bytes_are_zero(f + 2 * SECTOR, 16)) {
                refuse(info, "truncated", "footer", "none", "footer marker, footer, end-of-stream",
                       "the file does not end with a footer: it is cut");
                return 0;
        }
        /* everything but the directory's place has to be as in the header */
        if (memcmp(f + SECTOR, h, 48) != 0 || get_le16(f + SECTOR + 77) != get_le16(h + 77))
                refuse(info, "footer", "footer", "differs", "the header", "footer and header contradict");
        memcpy(h, f + SECTOR, SECTOR);
        if (get_le64(h + 56) == AT_END)
                refuse(info, "footer", "gdOffset", "at the end", "a place",
                       "the footer does not say where the grain directory is");
        return 0;
}

/* A file that is only a descriptor: recognised, told about, refused. */
static int text_open(struct map *m, struct image_info *info, struct err *err)
{
        size_t len = (size_t)MIN_OF(m->src.size, (uint64_t)DESCRIPTOR_MAX);
        _cleanup_(freep) uint8_t *text = malloc(len);
        int r;

        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        r = source_read(&m->src, text, len, 0, err);
        if (r == 0)
                vmdk_descriptor_check((const char *)text, len, UINT64_MAX, info);
        return r;
}

static int vmdk_open(struct map *m, bool stream, struct image_info *info, struct err *err)
{
        uint8_t h[SECTOR] = {0};
        struct vmdk *v;
        int r = source_read(&m->src, h, (size_t)MIN_OF(m->src.size, (uint64_t)SECTOR), 0, err);

        if (r < 0)
                return r;
        if (memcmp(h, "KDMV", 4) != 0)
                return text_open(m, info, err);
        if (m->src.size < SECTOR) {
                refuse_number(info, "truncated", "header", m->src.size, SECTOR,
                              "the file ends inside the header");
                return 0;
        }
        m->state = v = calloc(1, sizeof(*v));
        if (!v)
                return err_set(err, -ENOMEM, "out of memory");
        if (!geometry_check(m, h, info))
                return 0;
        r = descriptor_read(m, h, info, err);
        if (r == 0 && info->n_refusals == 0 && get_le64(h + 56) == AT_END) {
                if (stream)
                        return err_set(err, -EBADMSG,
                                       "table-order: the grain directory is at the file's end: let `wherry "
                                       "image add` convert the image");
                r = footer_read(m, h, info, err);
        }
        if (r < 0 || info->n_refusals > 0)
                return r;
        v->overhead = get_le64(h + 64) > m->src.size / SECTOR ? 0 : get_le64(h + 64) * SECTOR;
        note(info, "overHead", "%" PRIu64, get_le64(h + 64));
        if (!map_reserve(m, "header", 0, MAX_OF(v->overhead, (uint64_t)SECTOR), info))
                return 0;
        return directory_read(m, get_le64(h + 56), info, err);
}

/* Grain tables outside of the overhead. Where grains are compressed, tables lie between them: there it is
 * enough that all of them have room in the file, so that none stands for many. */
static int vmdk_reserve(struct map *m, struct image_info *info, struct err *err)
{
        const struct vmdk *v = m->state;
        uint64_t len = v->gtes * UINT64_C(4), n = 0;

        for (uint64_t i = 0; i < v->n_tables && info->n_refusals == 0; i++) {
                uint64_t at = (uint64_t)get_le32(v->directory + i * 4) * SECTOR;

                if (at == 0)
                        continue;
                n++;
                if (v->flags & FLAG_COMPRESSED || at + len <= v->overhead)
                        continue;
                map_reserve(m, "grain table", at, MAX_OF(len, (uint64_t)SECTOR), info);
        }
        if (info->n_refusals == 0 && n * len > m->src.size)
                refuse_number(info, "overlap", "grain directory", n * len, m->src.size,
                              "it names a grain table more than once");
        return 0;
}

static int vmdk_lookup(struct map *m, uint64_t block, struct mapping *ret, struct err *err)
{
        const struct vmdk *v = m->state;
        uint64_t table = (uint64_t)get_le32(v->directory + block / v->gtes * 4) * SECTOR;
        uint64_t end = table + v->gtes * UINT64_C(4);
        const uint8_t *p;
        uint32_t entry;
        int r;

        if (table == 0) {
                *ret = (struct mapping){.kind = MAPPING_HOLE, .blocks = v->gtes - block % v->gtes};
                return 0;
        }
        r = map_table(m, table + block % v->gtes * 4, 4, end, &p, err);
        if (r < 0)
                return err_wrap(err, r, "grain table");
        entry = get_le32(p);
        if (entry == 0 || (entry == 1 && v->flags & FLAG_ZEROED_GRAIN))
                *ret = (struct mapping){.kind = MAPPING_HOLE};
        else
                *ret = (struct mapping){
                    .kind = v->flags & FLAG_COMPRESSED ? MAPPING_PACKED : MAPPING_DATA,
                    .host = (uint64_t)entry * SECTOR,
                };
        return 0;
}

/* A grain's marker: its place on the disk, and how many bytes of deflated data follow. */
static int vmdk_packed_len(struct map *m, uint64_t block, uint64_t host, uint64_t *ret, struct err *err)
{
        const struct vmdk *v = m->state;
        uint8_t marker[MARKER_LEN];
        int r = source_read(&m->src, marker, sizeof(marker), host, err);

        if (r < 0)
                return r;
        if (get_le64(marker) != block * v->grain)
                return err_set(err, -EBADMSG, "the grain at %" PRIu64 " says that it is sector %" PRIu64,
                               host, get_le64(marker));
        if (get_le32(marker + 8) == 0 || get_le32(marker + 8) > 2 * m->block)
                return err_set(err, -EBADMSG, "the grain at %" PRIu64 " has %u compressed bytes", host,
                               get_le32(marker + 8));
        *ret = MARKER_LEN + (uint64_t)get_le32(marker + 8);
        return 0;
}

static int vmdk_unpack(struct map *m, uint64_t block, const uint8_t *packed, size_t len, struct err *err)
{
        uLongf out = (uLongf)m->block;
        int r;

        if (!m->cluster)
                m->cluster = malloc((size_t)m->block);
        if (!m->cluster)
                return err_set(err, -ENOMEM, "out of memory");
        if (len <= MARKER_LEN)
                return err_set(err, -EBADMSG, "a compressed grain is empty");
        r = uncompress(m->cluster, &out, packed + MARKER_LEN, (uLong)(len - MARKER_LEN));
        if (r != Z_OK || out < map_block_len(m, block))
                return err_set(err, -EBADMSG, "a compressed grain is damaged: %s",
                               r == Z_BUF_ERROR ? "it gives more than a grain"
                               : r != Z_OK      ? "no valid data"
                                                : "it gives less than a grain");
        memset(m->cluster + out, 0, (size_t)(m->block - out));
        return 0;
}

const struct map_ops vmdk_map_ops = {
    .open = vmdk_open,
    .lookup = vmdk_lookup,
    .close = vmdk_close,
    .reserve = vmdk_reserve,
    .packed_len = vmdk_packed_len,
    .unpack = vmdk_unpack,
};
