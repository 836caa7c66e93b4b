/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/qcow2.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"

/* Offsets and limits: docs/formats/qcow2.md. */
#define INCOMPAT_DIRTY (UINT64_C(1) << 0)
#define INCOMPAT_CORRUPT (UINT64_C(1) << 1)
#define INCOMPAT_DATA_FILE (UINT64_C(1) << 2)
#define INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define INCOMPAT_EXTENDED_L2 (UINT64_C(1) << 4)
#define L1_SIZE_MAX (UINT32_C(4) << 20)
#define REFCOUNT_TABLE_MAX (UINT64_C(8) << 20)
#define SNAPSHOTS_MAX 65536u

#define EXT_END 0u
#define EXT_ENCRYPTION 0x0537be77u
#define EXT_DATA_FILE 0x44415441u

#define ENTRY_OFFSET UINT64_C(0x00fffffffffffe00)
#define ENTRY_COPIED (UINT64_C(1) << 63)
#define ENTRY_COMPRESSED (UINT64_C(1) << 62)
#define ENTRY_ZERO UINT64_C(1)

static void references_check(const uint8_t *head, size_t len, struct image_info *info)
{
        uint64_t name = get_be64(head + 8), name_len = get_be32(head + 16);
        char text[64] = "outside the header";

        if (name != 0) {
                if (name <= len && name_len <= len - name)
                        text_clean(text, sizeof(text), head + name, name_len);
                refuse(info, "backing-file", "backing_file_offset", text, "none",
                       "an image must not refer to another file: flatten it with qemu-img convert");
        }
        if (get_be32(head + 32) != 0)
                refuse_number(info, "encryption", "crypt_method", get_be32(head + 32), 0,
                              "encrypted images cannot be read");
}

/* Returns where the header extensions begin, 0 where that cannot be said. */
static uint32_t features_check(const uint8_t *head, size_t len, struct qcow2 *q, struct image_info *info)
{
        uint64_t incompatible;
        uint32_t header_len, order;
        unsigned compression = 0;

        if (q->version == 2)
                return 72;
        incompatible = get_be64(head + 72);
        order = get_be32(head + 96);
        header_len = get_be32(head + 100);
        if (incompatible & INCOMPAT_CORRUPT)
                refuse(info, "corrupt", "incompatible_features", "bit 1", "0",
                       "the image is marked as corrupt");
        if (incompatible & INCOMPAT_DATA_FILE)
                refuse(info, "data-file", "incompatible_features", "bit 2", "0",
                       "an image must not refer to another file: its data is in an external data file");
        q->extended = incompatible & INCOMPAT_EXTENDED_L2;
        if (q->extended)
                q->l2_bits = q->cluster_bits - 4;
        if (q->extended && q->cluster_bits < 14)
                refuse_number(info, "cluster-bits", "cluster_bits", q->cluster_bits, 14,
                              "clusters with subclusters have at least 16 KiB");
        if (incompatible >> 5)
                refuse_number(info, "unknown-feature", "incompatible_features", incompatible, 0x1f,
                              "unknown incompatible feature bits are set");
        if (order > 6)
                refuse_number(info, "refcount-order", "refcount_order", order, 6,
                              "refcounts have at most 64 bits");
        if (header_len < 104 || header_len % 8 != 0 || header_len > q->cluster_size || header_len > len) {
                refuse_number(info, "header-length", "header_length", header_len,
                              MIN_OF(q->cluster_size, len),
                              "it has to be a multiple of 8, at least 104, and inside the first cluster");
                return 0;
        }
        if (header_len > 104)
                compression = head[104];
        if (compression > 1)
                refuse_number(info, "compression-type", "compression_type", compression, 1,
                              "only 0 (zlib) and 1 (zstd) are known");
        if ((compression != 0) != ((incompatible & INCOMPAT_COMPRESSION) != 0))
                refuse_number(info, "compression-type", "compression_type", compression, 0,
                              "it contradicts bit 3 of incompatible_features");
        q->zstd = compression == 1;
        return header_len;
}

static void extensions_check(const uint8_t *head, size_t len, uint64_t at, const struct qcow2 *q,
                             struct image_info *info)
{
        uint64_t end = MIN_OF((uint64_t)len, q->cluster_size);

        /* a version 2 image ends the list at the backing file's name, which is refused; the list may be
         * missing */
        while (at + 8 <= end) {
                uint32_t type = get_be32(head + at);
                uint64_t ext_len = get_be32(head + at + 4);

                if (type == EXT_END)
                        return;
                if (ext_len > end - at - 8) {
                        refuse_number(info, "header-extension", "header extension length", ext_len,
                                      end - at - 8, "a header extension reaches beyond the first cluster");
                        return;
                }
                if (type == EXT_ENCRYPTION)
                        refuse(info, "encryption", "header extension", "full disk encryption", "none",
                               "encrypted images cannot be read");
                if (type == EXT_DATA_FILE)
                        refuse(
                            info, "data-file", "header extension", "external data file name", "none",
                            "an image must not refer to another file: its data is in an external data file");
                at += 8 + ((ext_len + 7) & ~UINT64_C(7));
        }
}

/* A table that starts on a cluster and lies inside the file, behind the header. */
static void table_check(struct image_info *info, const struct qcow2 *q, const char *code, const char *field,
                        uint64_t offset, uint64_t len, uint64_t file_size)
{
        if (offset % q->cluster_size != 0 || offset == 0)
                refuse_number(info, code, field, offset, q->cluster_size,
                              "a table has to start on a cluster boundary, not in the header");
        else if (offset > file_size || len > file_size - offset)
                refuse_number(info, file_size == UINT64_MAX ? code : "truncated", field, offset, file_size,
                              "the table does not lie inside the file");
}

static void tables_check(const uint8_t *head, uint64_t file_size, struct qcow2 *q, struct image_info *info)
{
        uint64_t reach = qcow2_l2_reach(q), needed = (q->size + reach - 1) / reach;
        uint32_t snapshots = get_be32(head + 60);

        q->l1_size = get_be32(head + 36);
        q->l1_offset = get_be64(head + 40);
        q->refcount_offset = get_be64(head + 48);
        q->refcount_clusters = get_be32(head + 56);
        if (q->l1_size > L1_SIZE_MAX || needed > L1_SIZE_MAX)
                refuse_number(info, "l1-size", "l1_size", MAX_OF(q->l1_size, needed), L1_SIZE_MAX,
                              "the L1 table is too large");
        else if (q->l1_size < needed)
                refuse_number(info, "l1-size", "l1_size", q->l1_size, needed,
                              "the L1 table is too small for the disk");
        else
                table_check(info, q, "l1-bounds", "l1_table_offset", q->l1_offset, UINT64_C(8) * q->l1_size,
                            file_size);
        q->l1_used = (uint32_t)MIN_OF(needed, (uint64_t)L1_SIZE_MAX);
        if (q->refcount_clusters == 0 || q->refcount_clusters > REFCOUNT_TABLE_MAX / q->cluster_size)
                refuse_number(info, "refcount-table-size", "refcount_table_clusters", q->refcount_clusters,
                              REFCOUNT_TABLE_MAX / q->cluster_size,
                              "the refcount table is empty or too large");
        else
                table_check(info, q, "refcount-table-bounds", "refcount_table_offset", q->refcount_offset,
                            q->refcount_clusters * q->cluster_size, file_size);
        if (snapshots > SNAPSHOTS_MAX)
                refuse_number(info, "snapshots", "nb_snapshots", snapshots, SNAPSHOTS_MAX,
                              "too many snapshots");
        else if (snapshots > 0)
                table_check(info, q, "snapshots", "snapshots_offset", get_be64(head + 64),
                            UINT64_C(40) * snapshots, file_size);
}

void qcow2_header_check(const uint8_t *head, size_t len, uint64_t file_size, struct qcow2 *ret,
                        struct image_info *info)
{
        struct qcow2 q = {0};
        uint32_t bits, extensions;

        info->version = len >= 8 ? get_be32(head + 4) : 0;
        if (len < 72 || (info->version == 3 && len < 104)) {
                refuse_number(info, "truncated", "header", len, info->version == 3 ? 104 : 72,
                              "the file ends inside the header");
                return;
        }
        if (info->version != 2 && info->version != 3) {
                refuse_number(info, "version", "version", info->version, 3,
                              "only versions 2 and 3 are known");
                return;
        }
        bits = get_be32(head + 20);
        if (bits < 9 || bits > 21) {
                refuse_number(info, "cluster-bits", "cluster_bits", bits, 21,
                              "clusters are 512 bytes to 2 MiB");
                return;
        }
        q.version = info->version;
        q.cluster_bits = info->cluster_bits = bits;
        q.cluster_size = UINT64_C(1) << bits;
        q.l2_bits = bits - 3;
        q.size = get_be64(head + 24);
        if (q.size == 0 || q.size % 512 != 0 || q.size > FORMAT_SIZE_MAX) {
                refuse_number(info, "size", "size", q.size, FORMAT_SIZE_MAX,
                              "the disk's size has to be a multiple of 512, above 0 and up to the limit");
                return;
        }
        info->virtual_size = q.size;
        note(info, "version", "%u", q.version);
        note(info, "cluster_bits", "%u", bits);
        note(info, "nb_snapshots", "%u", get_be32(head + 60));
        note(info, "l1_size", "%u", get_be32(head + 36));
        if (q.version == 3)
                note(info, "incompatible_features", "0x%" PRIx64, get_be64(head + 72));
        references_check(head, len, info);
        extensions = features_check(head, len, &q, info);
        if (extensions > 0)
                extensions_check(head, len, extensions, &q, info);
        tables_check(head, file_size, &q, info);
        note(info, "compression_type", "%s", q.zstd ? "zstd" : "zlib");
        note(info, "extended L2 entries", "%s", q.extended ? "yes" : "no");
        *ret = q;
}

const char *qcow2_l1_entry(const struct qcow2 *q, uint64_t entry, uint64_t *ret_l2)
{
        uint64_t offset = entry & ENTRY_OFFSET;

        if (entry & ~(ENTRY_OFFSET | ENTRY_COPIED))
                return "reserved bits of an L1 entry are set";
        if (offset % q->cluster_size != 0)
                return "an L2 table does not start on a cluster boundary";
        *ret_l2 = offset;
        return NULL;
}

/* An entry with a bitmap: the low half says which subclusters have data, the high half which are zeros. */
static const char *extended_entry(const struct qcow2 *q, uint64_t offset, uint64_t bitmap,
                                  struct qcow2_mapping *ret)
{
        uint32_t data = (uint32_t)bitmap, zeros = (uint32_t)(bitmap >> 32);

        if (data & zeros)
                return "a subcluster is both data and zeros";
        if (data && offset == 0)
                return "subclusters with data have no cluster";
        *ret = (struct qcow2_mapping){data ? QCOW2_DATA : QCOW2_HOLE, offset, offset ? q->cluster_size : 0,
                                      data, zeros};
        return NULL;
}

const char *qcow2_l2_entry(const struct qcow2 *q, uint64_t entry, uint64_t bitmap, struct qcow2_mapping *ret)
{
        uint64_t offset = entry & ENTRY_OFFSET;

        if (entry & ENTRY_COMPRESSED) {
                unsigned x = 62 - (q->cluster_bits - 8);
                uint64_t host = entry & ((UINT64_C(1) << x) - 1);
                uint64_t sectors = (entry & (ENTRY_COMPRESSED - 1)) >> x;

                if (entry & ENTRY_COPIED)
                        return "a compressed cluster is marked as copied";
                if (host >> 56)
                        return "a compressed cluster lies beyond what a file can hold";
                if (bitmap)
                        return "a compressed cluster has subclusters";
                *ret =
                    (struct qcow2_mapping){QCOW2_COMPRESSED, host, (sectors + 1) * 512 - host % 512, 0, 0};
                return NULL;
        }
        if (entry & ~(ENTRY_OFFSET | ENTRY_COPIED | (q->version >= 3 && !q->extended ? ENTRY_ZERO : 0)))
                return "reserved bits of an L2 entry are set";
        if (offset % q->cluster_size != 0)
                return "a data cluster does not start on a cluster boundary";
        if (q->extended)
                return extended_entry(q, offset, bitmap, ret);
        if (offset == 0 || (entry & ENTRY_ZERO))
                *ret = (struct qcow2_mapping){.kind = QCOW2_HOLE,
                                              .host = offset,
                                              .len = offset ? q->cluster_size : 0,
                                              .zeros = entry & ENTRY_ZERO ? UINT32_MAX : 0};
        else
                *ret = (struct qcow2_mapping){QCOW2_DATA, offset, q->cluster_size, UINT32_MAX, 0};
        return NULL;
}
