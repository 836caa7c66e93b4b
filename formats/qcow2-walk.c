/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/qcow2.h"

#include <errno.h>
#include <stdlib.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"

#define CLUSTERS_MAX (UINT64_C(1) << 25) /* two marks each: 8 MiB */
#define PIECE (64 * 1024)                /* tables are read in pieces of this size */

/*
 * A walk over all that the active state uses. Each cluster of the file is marked at its first use, so that a
 * second one is seen; no table can therefore be walked twice, and the work is bounded by the file's size.
 */
struct walk {
        const struct source *src;
        const struct qcow2 *q;
        struct image_info *info;
        uint8_t *exclusive;        /* a bit per cluster: metadata or data */
        uint8_t *compressed;       /* a bit per cluster: holds compressed data */
        uint64_t n_compressed;     /* host clusters with compressed data */
        uint64_t compressed_bytes; /* the least that all compressed clusters take in the file */
        uint64_t expanded;         /* guest bytes in compressed clusters */
};

static bool bit_set(uint8_t *map, uint64_t i)
{
        bool was = map[i / 8] & 1u << (i % 8);

        map[i / 8] |= (uint8_t)(1u << (i % 8));
        return was;
}

static bool bit_get(const uint8_t *map, uint64_t i)
{
        return map[i / 8] & 1u << (i % 8);
}

/* Returns false after a refusal. `present`: how many of the bytes have to be in the file. */
static bool claim(struct walk *w, const char *field, uint64_t offset, uint64_t len, uint64_t present)
{
        unsigned bits = w->q->cluster_bits;

        if (offset >= w->src->size || present > w->src->size - offset) {
                refuse_number(w->info, "truncated", field, offset, w->src->size,
                              "it does not lie inside the file");
                return false;
        }
        for (uint64_t c = offset >> bits; c <= (offset + len - 1) >> bits && c <= (w->src->size - 1) >> bits;
             c++)
                if (bit_set(w->exclusive, c) || bit_get(w->compressed, c)) {
                        refuse_number(w->info, "overlap", field, c << bits, 1,
                                      "this cluster of the file is used more than once");
                        return false;
                }
        return true;
}

static bool claim_compressed(struct walk *w, const struct qcow2_mapping *m, uint64_t guest)
{
        unsigned bits = w->q->cluster_bits;
        uint64_t sector_end = m->host + m->len, least = m->len > 512 ? m->len - 511 : 1;
        uint64_t end = MIN_OF(sector_end, w->src->size);

        if (m->host >= w->src->size || least > w->src->size - m->host) {
                refuse_number(w->info, "truncated", "compressed cluster", m->host, w->src->size,
                              "it does not lie inside the file");
                return false;
        }
        for (uint64_t c = m->host >> bits; c <= (end - 1) >> bits; c++) {
                if (bit_get(w->exclusive, c)) {
                        refuse_number(w->info, "overlap", "compressed cluster", c << bits, 1,
                                      "this cluster of the file is used more than once");
                        return false;
                }
                if (!bit_set(w->compressed, c))
                        w->n_compressed++;
        }
        w->compressed_bytes += least;
        w->expanded += MIN_OF(w->q->cluster_size, w->q->size - guest);
        return true;
}

/* Many entries may name the same compressed bytes; then a small file would become an endless disk. */
static void bomb_check(struct walk *w)
{
        uint64_t room = w->n_compressed << w->q->cluster_bits;

        if (w->compressed_bytes > room)
                refuse_number(w->info, "overlap", "compressed clusters", w->compressed_bytes, room,
                              "compressed data is used more than once");
        else if (!expansion_fits(w->expanded, w->src->size))
                refuse_number(w->info, "expansion", "compressed clusters", w->expanded,
                              w->src->size * EXPANSION_MAX, "the disk is out of proportion to the file");
}

static bool refuse_entry(struct walk *w, const char *field, uint64_t guest, const char *why)
{
        refuse_number(w->info, "reserved-bits", field, guest, w->q->size, why);
        return false;
}

static bool l2_entry(struct walk *w, uint64_t entry, uint64_t bitmap, uint64_t guest)
{
        struct qcow2_mapping m;
        const char *why = qcow2_l2_entry(w->q, entry, bitmap, &m);
        uint64_t left = w->q->size - guest, used;

        if (why)
                return refuse_entry(w, "guest offset of an L2 entry", guest, why);
        if (m.kind == QCOW2_COMPRESSED)
                return claim_compressed(w, &m, guest);
        if (m.kind == QCOW2_HOLE)
                return m.host == 0 || claim(w, "preallocated cluster", m.host, m.len, 1);
        /* the last bytes that are data have to be there */
        used = (32 - (uint64_t)__builtin_clz(m.subclusters)) * m.len / 32;
        return claim(w, "data cluster", m.host, m.len, MIN_OF(used, left));
}

/* Calls each() for n entries of `step` bytes at offset; bitmap: the second half of a longer one. 1: go on,
 * 0: refused, negative: not readable. */
static int table_walk(struct walk *w, uint64_t offset, uint64_t n, unsigned step,
                      int (*each)(struct walk *w, uint64_t entry, uint64_t bitmap, uint64_t index,
                                  uint64_t base, struct err *err),
                      uint64_t base, struct err *err)
{
        _cleanup_(freep) uint8_t *piece = malloc(PIECE);

        if (!piece)
                return err_set(err, -ENOMEM, "out of memory");
        for (uint64_t i = 0; i < n;) {
                size_t count = (size_t)MIN_OF(n - i, (uint64_t)PIECE / step);
                int r = source_read(w->src, piece, count * step, offset + i * step, err);

                if (r < 0)
                        return r;
                for (size_t k = 0; k < count; k++, i++) {
                        uint64_t entry = get_be64(piece + k * step);
                        uint64_t bitmap = step == 16 ? get_be64(piece + k * step + 8) : 0;

                        if (entry == 0 && bitmap == 0)
                                continue;
                        r = each(w, entry, bitmap, i, base, err);
                        if (r <= 0)
                                return r;
                }
        }
        return 1;
}

static int each_l2(struct walk *w, uint64_t entry, uint64_t bitmap, uint64_t index, uint64_t base,
                   struct err *err)
{
        return l2_entry(w, entry, bitmap, base + (index << w->q->cluster_bits));
}

static int each_l1(struct walk *w, uint64_t entry, uint64_t bitmap, uint64_t index, uint64_t base,
                   struct err *err)
{
        const struct qcow2 *q = w->q;
        uint64_t l2, guest = index * qcow2_l2_reach(q);
        uint64_t left = (q->size - guest + q->cluster_size - 1) >> q->cluster_bits;
        const char *why = qcow2_l1_entry(q, entry, &l2);

        if (why)
                return refuse_entry(w, "guest offset of an L1 entry", guest, why);
        if (l2 == 0)
                return 1;
        if (!claim(w, "L2 table", l2, q->cluster_size, q->cluster_size))
                return 0;
        return table_walk(w, l2, MIN_OF(left, UINT64_C(1) << q->l2_bits), qcow2_l2_entry_len(q), each_l2,
                          guest, err);
}

static int each_refcount(struct walk *w, uint64_t entry, uint64_t bitmap, uint64_t index, uint64_t base,
                         struct err *err)
{
        if (entry % MAX_OF(w->q->cluster_size, UINT64_C(512)) != 0) {
                refuse_number(w->info, "refcount-block", "refcount block offset", entry, w->q->cluster_size,
                              "a refcount block has to start on a cluster boundary");
                return 0;
        }
        return claim(w, "refcount block", entry, w->q->cluster_size, w->q->cluster_size);
}

int qcow2_walk(const struct source *src, const struct qcow2 *q, struct image_info *info, struct err *err)
{
        uint64_t clusters = (src->size + q->cluster_size - 1) >> q->cluster_bits;
        _cleanup_(freep) uint8_t *exclusive = NULL;
        _cleanup_(freep) uint8_t *compressed = NULL;
        struct walk w = {.src = src, .q = q, .info = info};
        int r;

        if (clusters > CLUSTERS_MAX) {
                refuse_number(info, "too-many-clusters", "clusters of the file", clusters, CLUSTERS_MAX,
                              "convert with larger clusters: qemu-img convert -o cluster_size=2M");
                return 0;
        }
        w.exclusive = exclusive = calloc(1, (size_t)(clusters / 8 + 1));
        w.compressed = compressed = calloc(1, (size_t)(clusters / 8 + 1));
        if (!exclusive || !compressed)
                return err_set(err, -ENOMEM, "out of memory");
        if (!claim(&w, "header", 0, q->cluster_size, 72) ||
            !claim(&w, "refcount table", q->refcount_offset, q->refcount_clusters * q->cluster_size,
                   q->refcount_clusters * q->cluster_size) ||
            !claim(&w, "L1 table", q->l1_offset, UINT64_C(8) * q->l1_size, UINT64_C(8) * q->l1_size))
                return 0;
        r = table_walk(&w, q->refcount_offset, q->refcount_clusters * q->cluster_size / 8, 8, each_refcount,
                       0, err);
        if (r <= 0)
                return r;
        r = table_walk(&w, q->l1_offset, q->l1_used, 8, each_l1, 0, err);
        if (r <= 0)
                return r;
        bomb_check(&w);
        return 0;
}
