/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/formats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/qcow2.h"

/* Layout: docs/formats/qcow2.md. */
#define CLUSTER_BITS 17
#define CLUSTER (UINT64_C(1) << CLUSTER_BITS)
#define L2_REACH (CLUSTER * CLUSTER / 16)
#define EXTENDED_L2 0x10
#define OLD_CLUSTER_BITS 16 /* without extended L2 entries: disks made before there were any */
#define HEADER_LEN 104
#define BLOCK 4096
#define BACKING_NAME_MAX 1023

static void write_header(uint8_t *h, uint64_t virtual_size, uint32_t l1_size, const char *backing)
{
        uint8_t *ext = h + HEADER_LEN;

        memcpy(h, "QFI\xfb", 4);
        put_be32(h + 4, 3);
        put_be32(h + 20, CLUSTER_BITS);
        put_be64(h + 24, virtual_size);
        put_be32(h + 36, l1_size);
        put_be64(h + 40, 3 * CLUSTER);
        put_be64(h + 48, CLUSTER);
        put_be32(h + 56, 1);
        put_be64(h + 72, EXTENDED_L2);
        put_be32(h + 96, 4); /* 16-bit refcounts */
        put_be32(h + 100, HEADER_LEN);
        if (!backing)
                return; /* the zeros that follow end the list of extensions */
        put_be32(ext, 0xe2792aca);
        put_be32(ext + 4, 3);
        memcpy(ext + 8, "raw", 3);
        put_be64(h + 8, HEADER_LEN + 16 + 8);
        put_be32(h + 16, (uint32_t)strlen(backing));
        memcpy(ext + 16 + 8, backing, strlen(backing));
}

int qcow2_overlay(uint64_t virtual_size, const char *backing, uint8_t **ret, size_t *ret_len,
                  struct err *err)
{
        uint64_t l1_size, l1_clusters, len;
        uint8_t *out;

        if (virtual_size == 0 || virtual_size % 512 != 0 || virtual_size > FORMAT_SIZE_MAX)
                return err_set(err, -EINVAL,
                               "disk size %" PRIu64 " is not a multiple of 512 from 512 to %" PRIu64,
                               virtual_size, FORMAT_SIZE_MAX);
        if (backing && (backing[0] == '\0' || strlen(backing) > BACKING_NAME_MAX))
                return err_set(err, -EINVAL, "backing file name of %zu bytes, limit 1 to %d",
                               strlen(backing), BACKING_NAME_MAX);
        l1_size = (virtual_size + L2_REACH - 1) / L2_REACH;
        l1_clusters = (l1_size * 8 + CLUSTER - 1) / CLUSTER;
        /* whole blocks, so that direct I/O meets no odd end of file */
        len = 3 * CLUSTER + (l1_size * 8 + BLOCK - 1) / BLOCK * BLOCK;
        out = calloc(1, (size_t)len);
        if (!out)
                return err_set(err, -ENOMEM, "out of memory");
        write_header(out, virtual_size, (uint32_t)l1_size, backing);
        put_be64(out + CLUSTER, 2 * CLUSTER); /* the only refcount block */
        for (uint64_t i = 0; i < 3 + l1_clusters; i++)
                put_be16(out + 2 * CLUSTER + 2 * i, 1);
        *ret = out;
        *ret_len = (size_t)len;
        return 0;
}

/* --- and read again --- */

static int padded_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct source *src = &((const struct overlay_file *)state)->outer;
        size_t n = offset < src->size ? (size_t)MIN_OF((uint64_t)len, src->size - offset) : 0;

        memset((uint8_t *)buf + n, 0, len - n);
        return n > 0 ? source_read(src, buf, n, offset, err) : 0;
}

struct source overlay_file_source(struct overlay_file *f, const struct source *outer, uint64_t cluster_size)
{
        f->outer = *outer;
        return (struct source){.size = (outer->size + cluster_size - 1) / cluster_size * cluster_size,
                               .read = padded_read,
                               .state = f};
}

/* QEMU adds header extensions of its own and may set the bit "dirty"; all else is as it was made. */
int overlay_check(const uint8_t *head, const struct image_info *info, const struct qcow2 *q,
                  uint64_t virtual_size, const char *backing, struct err *err)
{
        size_t expected = backing ? 1 : 0, len = backing ? strlen(backing) : 0;
        unsigned bits = q->extended ? CLUSTER_BITS : OLD_CLUSTER_BITS;

        if (info->n_refusals != expected || (backing && !streq(info->refusals[0].code, "backing-file")))
                return info->n_refusals > 0 ? refusal_error(info, err)
                                            : err_set(err, -EBADMSG, "the overlay names no backing file");
        if (info->version != 3 || info->cluster_bits != bits || get_be32(head + 60) != 0)
                return err_set(err, -EBADMSG,
                               "not an overlay of ours: version %u, %u cluster bits with%s extended L2 "
                               "entries, %u snapshots",
                               info->version, info->cluster_bits, q->extended ? "" : "out",
                               get_be32(head + 60));
        if (info->virtual_size != virtual_size)
                return err_set(err, -EBADMSG,
                               "the overlay's size is %" PRIu64 " bytes, its record's %" PRIu64,
                               info->virtual_size, virtual_size);
        /* the first cluster, which holds the name, is inside of head, whose rest is zeros */
        if (backing && (get_be32(head + 16) != len || get_be64(head + 8) > q->cluster_size - len ||
                        memcmp(head + get_be64(head + 8), backing, len) != 0))
                return err_set(err, -EBADMSG, "the overlay's backing file is %s, its record's is %s",
                               info->refusals[0].value, backing);
        return 0;
}
