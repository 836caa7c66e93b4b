/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"

/*
 * A qcow2 image in one pass over a disk. What lies where, in clusters of 64 KiB:
 *
 *   0            header, written last
 *   1 ...        L1 table
 *   then         for each 512 MiB of the disk that have data: the L2 table, and the clusters with data
 *   at the end   refcount blocks, refcount table
 *
 * A table comes before what it maps, so that the image can be imported as a stream; the refcounts come last,
 * when it is known how many clusters there are. Each is 1. Layout: docs/formats/qcow2.md.
 */
#define CLUSTER_BITS 16
#define CLUSTER ((size_t)1 << CLUSTER_BITS)
#define L2_ENTRIES (CLUSTER / 8)
#define BLOCK_ENTRIES (CLUSTER / 2) /* refcounts of 16 bits */
#define COPIED (UINT64_C(1) << 63)
#define HEADER_LEN 104

struct qcow2_writer {
        struct byte_sink out;
        uint64_t size, clusters; /* of the file so far */
        uint8_t *l1;
        size_t l1_clusters;
        uint8_t *l2;
        uint64_t group; /* of the L2 table in l2, UINT64_MAX: none yet */
        uint64_t l2_at; /* its cluster; 0: the group has no data yet */
        uint8_t *buf;   /* the guest's cluster that is being filled */
        uint64_t at;    /* its number, UINT64_MAX: none yet */
        uint64_t end;   /* where the data so far ends */
};

struct qcow2_writer *qcow2_writer_free(struct qcow2_writer *w)
{
        if (!w)
                return NULL;
        free(w->l1);
        free(w->l2);
        free(w->buf);
        free(w);
        return NULL;
}

int qcow2_writer_new(uint64_t virtual_size, const struct byte_sink *out, struct qcow2_writer **ret,
                     struct err *err)
{
        uint64_t l1_size = (virtual_size + CLUSTER * L2_ENTRIES - 1) / (CLUSTER * L2_ENTRIES);
        struct qcow2_writer *w;

        if (virtual_size == 0 || virtual_size % 512 != 0 || virtual_size > FORMAT_SIZE_MAX)
                return err_set(err, -EINVAL,
                               "disk size %" PRIu64 " is not a multiple of 512 from 512 to %" PRIu64,
                               virtual_size, FORMAT_SIZE_MAX);
        w = calloc(1, sizeof(*w));
        if (w) {
                w->out = *out;
                w->size = virtual_size;
                w->l1_clusters = (size_t)((l1_size * 8 + CLUSTER - 1) / CLUSTER);
                w->clusters = 1 + w->l1_clusters;
                w->group = w->at = UINT64_MAX;
                w->l1 = calloc(w->l1_clusters, CLUSTER);
                w->l2 = calloc(1, CLUSTER);
                w->buf = calloc(1, CLUSTER);
        }
        if (!w || !w->l1 || !w->l2 || !w->buf) {
                qcow2_writer_free(w);
                return err_set(err, -ENOMEM, "out of memory");
        }
        *ret = w;
        return 0;
}

static int put(struct qcow2_writer *w, const void *buf, size_t len, uint64_t cluster, struct err *err)
{
        return w->out.write(w->out.state, buf, len, cluster << CLUSTER_BITS, err);
}

/* The L2 table is complete: what comes now belongs to a later one. */
static int group_end(struct qcow2_writer *w, struct err *err)
{
        if (w->l2_at == 0)
                return 0;
        put_be64(w->l1 + w->group * 8, w->l2_at << CLUSTER_BITS | COPIED);
        return put(w, w->l2, CLUSTER, w->l2_at, err);
}

static int cluster_end(struct qcow2_writer *w, struct err *err)
{
        uint64_t group = w->at / L2_ENTRIES;
        int r = 0;

        if (w->at == UINT64_MAX || bytes_are_zero(w->buf, CLUSTER))
                return 0;
        if (group != w->group) {
                r = group_end(w, err);
                memset(w->l2, 0, CLUSTER);
                w->group = group;
                w->l2_at = w->clusters++;
        }
        put_be64(w->l2 + w->at % L2_ENTRIES * 8, w->clusters << CLUSTER_BITS | COPIED);
        return r < 0 ? r : put(w, w->buf, CLUSTER, w->clusters++, err);
}

int qcow2_writer_data(struct qcow2_writer *w, const void *data, size_t len, uint64_t offset, struct err *err)
{
        const uint8_t *p = data;

        if (offset < w->end || offset > w->size || len > w->size - offset)
                return err_set(err, -EINVAL,
                               "%zu bytes at offset %" PRIu64 ": they have to ascend up to %" PRIu64, len,
                               offset, w->size);
        while (len > 0) {
                size_t within = (size_t)(offset % CLUSTER), n = MIN_OF(len, CLUSTER - within);

                if (offset / CLUSTER != w->at) {
                        int r = cluster_end(w, err);

                        if (r < 0)
                                return r;
                        memset(w->buf, 0, CLUSTER);
                        w->at = offset / CLUSTER;
                }
                memcpy(w->buf + within, p, n);
                p += n;
                offset += n;
                len -= n;
        }
        w->end = offset;
        return 0;
}

/* Blocks and table count themselves, too. */
static int write_refcounts(struct qcow2_writer *w, uint64_t *ret_table, uint64_t *ret_n_table,
                           struct err *err)
{
        uint64_t blocks = 0, table = 1, all, first = w->clusters;
        _cleanup_(freep) uint8_t *t = NULL;
        int r = 0;

        do { /* grows until it fits; each turn adds less than the one before */
                all = w->clusters + blocks + table;
                blocks = (all + BLOCK_ENTRIES - 1) / BLOCK_ENTRIES;
                table = (blocks * 8 + CLUSTER - 1) / CLUSTER;
        } while (w->clusters + blocks + table > all);
        t = calloc((size_t)table, CLUSTER);
        if (!t)
                return err_set(err, -ENOMEM, "out of memory");
        all = w->clusters + blocks + table;
        for (uint64_t b = 0; b < blocks && r == 0; b++) {
                memset(w->buf, 0, CLUSTER);
                for (uint64_t i = 0; i < BLOCK_ENTRIES && b * BLOCK_ENTRIES + i < all; i++)
                        put_be16(w->buf + i * 2, 1);
                put_be64(t + b * 8, (first + b) << CLUSTER_BITS);
                r = put(w, w->buf, CLUSTER, first + b, err);
        }
        *ret_table = first + blocks;
        *ret_n_table = table;
        return r < 0 ? r : put(w, t, (size_t)table * CLUSTER, first + blocks, err);
}

int qcow2_writer_finish(struct qcow2_writer *w, struct err *err)
{
        uint64_t table = 0, n_table = 0;
        uint8_t *h = w->buf;
        int r = cluster_end(w, err);

        if (r == 0)
                r = group_end(w, err);
        if (r == 0)
                r = write_refcounts(w, &table, &n_table, err);
        if (r == 0)
                r = put(w, w->l1, w->l1_clusters * CLUSTER, 1, err);
        if (r < 0)
                return r;
        memset(h, 0, CLUSTER);
        memcpy(h, "QFI\xfb", 4);
        put_be32(h + 4, 3);
        put_be32(h + 20, CLUSTER_BITS);
        put_be64(h + 24, w->size);
        put_be32(h + 36, (uint32_t)((w->size + CLUSTER * L2_ENTRIES - 1) / (CLUSTER * L2_ENTRIES)));
        put_be64(h + 40, CLUSTER);
        put_be64(h + 48, table << CLUSTER_BITS);
        put_be32(h + 56, (uint32_t)n_table);
        put_be32(h + 96, 4); /* 16-bit refcounts */
        put_be32(h + 100, HEADER_LEN);
        return put(w, h, CLUSTER, 0, err);
}
