/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/map.h"

/* Offsets: docs/formats/vhdx.md. All numbers are little-endian. */
#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1) << 20)
#define HEADER_LEN 4096u
#define TABLE_LEN (64u * 1024)
#define ENTRIES_MAX 2047u
#define BLOCK_MAX (256 * MIB)

typedef uint8_t guid[16];
static const guid region_bat = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
static const guid region_metadata = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                     0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
static const guid item_parameters = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                     0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};
static const guid item_size = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                               0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
static const guid item_sector = {0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
                                 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f};
static const guid item_physical = {0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44,
                                   0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56};
static const guid item_page83 = {0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45,
                                 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46};
static const guid item_parent = {0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45,
                                 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c};

struct vhdx {
        uint64_t bat, bat_len, metadata, metadata_len;
        uint64_t ratio; /* payload entries between two entries for sector bitmaps */
        uint8_t piece[TABLE_LEN];
};

static void vhdx_close(struct map *m)
{
        freep(&m->state);
}

/* CRC-32C with the four bytes at offset 4 as zeros. */
static bool checksum_fits(const uint8_t *p, size_t len)
{
        uint32_t crc = UINT32_MAX;

        for (size_t i = 0; i < len; i++) {
                crc ^= i >= 4 && i < 8 ? 0 : p[i];
                for (int k = 0; k < 8; k++)
                        crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
        return CHECKSUMS_IGNORED || (get_le32(p + 4) == ~crc);
}

/* The valid header with the higher sequence number counts. */
static int header_read(struct map *m, struct image_info *info, struct err *err)
{
        uint8_t two[2][HEADER_LEN];
        const uint8_t *h = NULL;

        for (int i = 0; i < 2; i++) {
                int r = source_read(&m->src, two[i], HEADER_LEN, (i + 1) * 64 * KIB, err);

                if (r < 0)
                        return r;
                if (memcmp(two[i], "head", 4) == 0 && checksum_fits(two[i], HEADER_LEN) &&
                    (!h || get_le64(two[i] + 8) > get_le64(h + 8)))
                        h = two[i];
        }
        if (!h) {
                refuse(info, "header", "header", "no valid one", "1",
                       "neither of the two headers has its signature and checksum");
                return 0;
        }
        note(info, "sequence number", "%" PRIu64, get_le64(h + 8));
        note(info, "version", "%u", get_le16(h + 66));
        note(info, "log", "%s", bytes_are_zero(h + 48, 16) ? "empty" : "to be replayed");
        if (get_le16(h + 66) != 1)
                refuse_number(info, "version", "Version", get_le16(h + 66), 1, "only version 1 is known");
        if (!bytes_are_zero(h + 48, 16))
                refuse(info, "log-replay", "LogGuid", "set", "none",
                       "it was not closed cleanly: its log has to be replayed first, by its own program or "
                       "qemu-img check -r all");
        map_reserve(m, "log", get_le64(h + 72), get_le32(h + 68), info);
        return 0;
}

/* One entry: where BAT and metadata lie. Returns false after a refusal. */
static bool region_take(struct map *m, const uint8_t *e, struct image_info *info)
{
        struct vhdx *v = m->state;
        uint64_t start = get_le64(e + 16), len = get_le32(e + 24);
        bool bat = memcmp(e, region_bat, 16) == 0;

        if (!bat && memcmp(e, region_metadata, 16) != 0) {
                if (get_le32(e + 28) & 1)
                        refuse(info, "unknown-feature", "region", "unknown", "known ones",
                               "the region is required, but nobody knows what it is");
                return !(get_le32(e + 28) & 1);
        }
        if (start < MIB || start % MIB != 0 || len == 0) {
                refuse_number(info, "table-bounds", bat ? "BAT region" : "metadata region", start, MIB,
                              "a region begins at a multiple of 1 MiB");
                return false;
        }
        if (bat ? v->bat : v->metadata) {
                refuse_number(info, "overlap", bat ? "BAT region" : "metadata region", start, 1,
                              "the region is there more than once");
                return false;
        }
        if (bat) {
                v->bat = start;
                v->bat_len = len;
        } else {
                v->metadata = start;
                v->metadata_len = len;
        }
        return map_reserve(m, bat ? "BAT region" : "metadata region", start, len, info);
}

static int regions_read(struct map *m, struct image_info *info, struct err *err)
{
        struct vhdx *v = m->state;
        uint32_t n;

        for (int i = 0;; i++) {
                int r = source_read(&m->src, v->piece, TABLE_LEN, (192 + i * 64) * KIB, err);

                if (r < 0)
                        return r;
                if (memcmp(v->piece, "regi", 4) == 0 && checksum_fits(v->piece, TABLE_LEN))
                        break;
                if (i == 1) {
                        refuse(info, "header", "region table", "no valid one", "1",
                               "neither of the two tables has its signature and checksum");
                        return 0;
                }
        }
        n = get_le32(v->piece + 8);
        if (n > ENTRIES_MAX) {
                refuse_number(info, "table-bounds", "EntryCount", n, ENTRIES_MAX, "too many regions");
                return 0;
        }
        for (uint32_t i = 0; i < n; i++)
                if (!region_take(m, v->piece + 16 + i * 32, info))
                        return 0;
        if (!v->bat || !v->metadata)
                refuse(info, "header", "region table", v->bat ? "no metadata" : "no BAT", "both",
                       "a required region is missing");
        return 0;
}

struct items {
        uint64_t block, size;
        uint32_t sector, physical;
        bool parent;
};

/* Reads one metadata item's value. */
static int item_take(struct map *m, const uint8_t *e, struct items *it, struct image_info *info,
                     struct err *err)
{
        const struct vhdx *v = m->state;
        uint64_t at = get_le32(e + 16), len = get_le32(e + 20);
        uint8_t value[8] = {0};
        int r;

        if (memcmp(e, item_parent, 16) == 0) {
                it->parent = true;
                return 0;
        }
        if (memcmp(e, item_page83, 16) == 0)
                return 0;
        if (at < TABLE_LEN || len < 4 || at > v->metadata_len || len > v->metadata_len - at) {
                if (get_le32(e + 24) & 4)
                        refuse_number(info, "table-bounds", "metadata item offset", at, v->metadata_len,
                                      "the item does not lie inside the metadata region");
                return 0;
        }
        r = source_read(&m->src, value, (size_t)MIN_OF(len, sizeof(value)), v->metadata + at, err);
        if (r < 0)
                return r;
        if (memcmp(e, item_parameters, 16) == 0) {
                it->block = get_le32(value);
                it->parent |= get_le32(value + 4) & 2;
        } else if (memcmp(e, item_size, 16) == 0)
                it->size = get_le64(value);
        else if (memcmp(e, item_sector, 16) == 0)
                it->sector = get_le32(value);
        else if (memcmp(e, item_physical, 16) == 0)
                it->physical = get_le32(value);
        else if (get_le32(e + 24) & 4)
                refuse(info, "unknown-feature", "metadata item", "unknown", "known ones",
                       "the item is required, but nobody knows what it is");
        return 0;
}

static int metadata_read(struct map *m, struct items *it, struct image_info *info, struct err *err)
{
        struct vhdx *v = m->state;
        uint32_t n;
        int r;

        if (v->metadata_len < TABLE_LEN) {
                refuse_number(info, "table-bounds", "metadata region", v->metadata_len, TABLE_LEN,
                              "it is too small for its table");
                return 0;
        }
        r = source_read(&m->src, v->piece, TABLE_LEN, v->metadata, err);
        if (r < 0)
                return r;
        n = get_le16(v->piece + 10);
        if (memcmp(v->piece, "metadata", 8) != 0 || n >= ENTRIES_MAX) {
                refuse_number(info, "table-bounds", "metadata table", n, ENTRIES_MAX,
                              "it has no signature, or too many items");
                return 0;
        }
        for (uint32_t i = 0; i < n && r == 0; i++)
                r = item_take(m, v->piece + 32 + i * 32, it, info, err);
        return r;
}

static void geometry_check(struct map *m, const struct items *it, struct image_info *info)
{
        struct vhdx *v = m->state;
        uint64_t blocks, entries;

        note(info, "BlockSize", "%" PRIu64, it->block);
        note(info, "LogicalSectorSize", "%u", it->sector);
        note(info, "PhysicalSectorSize", "%u", it->physical);
        note(info, "BAT region", "%" PRIu64 " + %" PRIu64, v->bat, v->bat_len);
        note(info, "metadata region", "%" PRIu64 " + %" PRIu64, v->metadata, v->metadata_len);
        if (it->parent)
                refuse(info, "differencing", "HasParent", "set", "0",
                       "an image must not refer to another file: merge it with its parent");
        if (it->sector != 512 && it->sector != 4096) {
                refuse_number(info, "sector-size", "LogicalSectorSize", it->sector, 4096,
                              "only 512 and 4096 are known");
                return;
        }
        if (it->block < MIB || it->block > BLOCK_MAX || (it->block & (it->block - 1)) != 0) {
                refuse_number(info, "block-size", "BlockSize", it->block, BLOCK_MAX,
                              "it has to be a power of 2, at least 1 MiB");
                return;
        }
        m->block = it->block;
        m->align = MIB;
        m->size = it->size;
        if (!map_size_check(m, "VirtualDiskSize", info))
                return;
        v->ratio = (UINT64_C(1) << 23) * it->sector / it->block;
        blocks = (m->size - 1) / m->block + 1;
        entries = blocks + (blocks - 1) / v->ratio;
        if (entries * 8 > v->bat_len)
                refuse_number(info, "table-bounds", "BAT region", v->bat_len, entries * 8,
                              "the table is too small for the disk");
}

static int vhdx_open(struct map *m, bool stream, struct image_info *info, struct err *err)
{
        struct items it = {0};
        int r;

        m->state = calloc(1, sizeof(struct vhdx));
        if (!m->state)
                return err_set(err, -ENOMEM, "out of memory");
        if (!map_reserve(m, "headers", 0, MIB, info))
                return 0;
        r = header_read(m, info, err);
        if (r == 0 && info->n_refusals == 0)
                r = regions_read(m, info, err);
        if (r < 0 || info->n_refusals > 0)
                return r;
        r = metadata_read(m, &it, info, err);
        if (r == 0 && info->n_refusals == 0)
                geometry_check(m, &it, info);
        return r;
}

static int vhdx_lookup(struct map *m, uint64_t block, struct mapping *ret, struct err *err)
{
        static const char *const states = "payload block state";
        const struct vhdx *v = m->state;
        const uint8_t *p;
        uint64_t entry;
        int r = map_table(m, v->bat + (block + block / v->ratio) * 8, 8, v->bat + v->bat_len, &p, err);

        if (r < 0)
                return r;
        entry = get_le64(p);
        switch (entry & 7) {
        case 0: /* not present, undefined, zero, unmapped: a disk without a parent reads zeros */
        case 1:
        case 2:
        case 3:
                *ret = (struct mapping){.kind = MAPPING_HOLE};
                return 0;
        case 6:
                break;
        default:
                return err_set(err, -EBADMSG, "%s %u is not one of a disk without a parent", states,
                               (unsigned)(entry & 7));
        }
        if (entry & (MIB - 1) & ~UINT64_C(7))
                return err_set(err, -EBADMSG, "reserved bits of a BAT entry are set");
        *ret = (struct mapping){.kind = MAPPING_DATA, .host = entry & ~(MIB - 1)};
        return 0;
}

const struct map_ops vhdx_map_ops = {.open = vhdx_open, .lookup = vhdx_lookup, .close = vhdx_close};
