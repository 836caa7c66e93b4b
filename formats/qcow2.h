/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"

/* A checked header: every number here lies within the bounds of docs/formats/qcow2.md. */
struct qcow2 {
        unsigned version, cluster_bits;
        uint64_t cluster_size, size;
        uint64_t l1_offset;
        uint32_t l1_used; /* entries that `size` needs; the rest of the table is not read */
        uint32_t l1_size;
        unsigned l2_bits; /* entries of an L2 table: 1 << l2_bits */
        uint64_t refcount_offset, refcount_clusters;
        bool zstd;
        bool extended; /* L2 entries of 16 bytes: each cluster in 32 subclusters */
};

/* Fills ret and info; where there is a refusal, ret must not be used. file_size UINT64_MAX: unknown. */
void qcow2_header_check(const uint8_t *head, size_t len, uint64_t file_size, struct qcow2 *ret,
                        struct image_info *info);

/* What an L2 entry says. */
enum qcow2_kind { QCOW2_HOLE, QCOW2_DATA, QCOW2_COMPRESSED };
struct qcow2_mapping {
        enum qcow2_kind kind;
        uint64_t host; /* data, compressed: where; hole: 0, or a cluster that is kept for it */
        uint64_t
            len; /* data: a cluster; compressed: at most so many bytes, up to the end of the last sector */
        /* A bit for each subcluster, subcluster 0 is bit 0. Without extended L2 entries: all of them or
         * none. */
        uint32_t subclusters; /* these have data */
        uint32_t zeros;       /* these are zeros, whatever lies below */
};

/* NULL, or what is wrong with the entry. */
const char *qcow2_l1_entry(const struct qcow2 *q, uint64_t entry, uint64_t *ret_l2);
const char *qcow2_l2_entry(const struct qcow2 *q, uint64_t entry, uint64_t bitmap,
                           struct qcow2_mapping *ret);
static inline unsigned qcow2_l2_entry_len(const struct qcow2 *q)
{
        return q->extended ? 16 : 8;
}

/* Where the byte at `within` of a cluster that is not compressed comes from; QCOW2_BELOW: from the backing
 * file, zeros where there is none. ret_len: for how many bytes of the cluster from there on that is so. */
enum qcow2_from { QCOW2_BELOW, QCOW2_ZEROS, QCOW2_FILE, QCOW2_FROM_MAX };
enum qcow2_from qcow2_subcluster(const struct qcow2 *q, const struct qcow2_mapping *m, uint64_t within,
                                 uint64_t *ret_len);

/*
 * n guest bytes of one cluster that is not compressed, of any mixture, by at most one read of each source: a
 * read may be a round trip to a server, and every second subcluster may come from elsewhere. below: size 0
 * where there is none. spare: a cluster's room.
 */
int qcow2_mixed_read(const struct qcow2 *q, const struct qcow2_mapping *m, const struct source *file,
                     const struct source *below, uint8_t *buf, uint8_t *spare, size_t n, uint64_t guest,
                     struct err *err);

/* Guest bytes that one L2 table maps. */
static inline uint64_t qcow2_l2_reach(const struct qcow2 *q)
{
        return q->cluster_size << q->l2_bits;
}

/* Walks all tables; what is wrong becomes a refusal, a source that cannot be read an error. */
int qcow2_walk(const struct source *src, const struct qcow2 *q, struct image_info *info, struct err *err);

/* An overlay's file up to the end of its last cluster: what QEMU has not written there reads as zeros. */
struct overlay_file {
        struct source outer;
};
struct source overlay_file_source(struct overlay_file *f, const struct source *outer, uint64_t cluster_size);
/* Whether the header, which head_check() has filled info and q from, is that of an overlay we made. */
int overlay_check(const uint8_t *head, const struct image_info *info, const struct qcow2 *q,
                  uint64_t virtual_size, const char *backing, struct err *err);

/* One cluster's worth of decompression. */
struct inflater;
int inflater_new(bool zstd, struct inflater **ret);
struct inflater *inflater_free(struct inflater *in); /* returns NULL */
/* Fills all of out or fails with -EBADMSG; ret_used: bytes of the input that were needed. */
int inflater_run(struct inflater *in, const uint8_t *data, size_t len, uint8_t *out, size_t out_len,
                 size_t *ret_used, struct err *err);
