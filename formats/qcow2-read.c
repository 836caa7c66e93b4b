/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/qcow2.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"

#define L1_WINDOW 8192u /* entries kept; 64 KiB */
#define NOWHERE UINT64_MAX
#define HOLE_MIN 4096u /* no file system has smaller ones */

/*
 * Everything is checked again at its use: the source may have changed since the inspection, and then a read
 * fails but never leaves the bounds.
 */
struct qcow2_image {
        struct qcow2 q;
        uint8_t l1[L1_WINDOW * 8];
        uint64_t l1_first; /* index of the window's first entry, NOWHERE: none */
        uint8_t *l2;       /* one table */
        uint64_t l2_at;    /* its place in the file, NOWHERE: none */
        struct inflater *inflater;
        uint8_t *packed;          /* a compressed cluster as it lies in the file */
        uint8_t *cluster;         /* the last one that was decompressed */
        uint8_t *spare;           /* extended L2 entries: room for a cluster */
        uint64_t guest;           /* its guest offset, NOWHERE: none */
        struct overlay_file file; /* an overlay's own bytes; img->src reads through it */
        struct source below;      /* what an overlay lies on; size 0: nothing */
};

/* Guest bytes that come from one place. */
struct piece {
        struct qcow2_mapping m; /* of their cluster; where it is compressed, `from` says nothing */
        enum qcow2_from from;   /* QCOW2_BELOW only where there is something below */
        uint64_t host, len;     /* len: at least 1, may reach beyond the disk's end */
};

static void qcow2_close(void *state)
{
        struct qcow2_image *s = state;

        if (!s)
                return;
        inflater_free(s->inflater);
        free(s->l2);
        free(s->packed);
        free(s->cluster);
        free(s->spare);
        free(s);
}

/* The L2 table for a guest offset, 0 where there is none. */
static int l1_lookup(struct image *img, uint64_t guest, uint64_t *ret_l2, struct err *err)
{
        struct qcow2_image *s = img->state;
        uint64_t index = guest / qcow2_l2_reach(&s->q), first = index - index % L1_WINDOW;
        const char *why;

        if (s->l1_first != first) {
                size_t n = (size_t)MIN_OF((uint64_t)L1_WINDOW, s->q.l1_used - first);
                int r;

                s->l1_first = NOWHERE;
                r = source_read(&img->src, s->l1, n * 8, s->q.l1_offset + first * 8, err);
                if (r < 0)
                        return r;
                s->l1_first = first;
        }
        why = qcow2_l1_entry(&s->q, get_be64(s->l1 + (index - first) * 8), ret_l2);
        if (why)
                return err_set(err, -EBADMSG, "guest offset %" PRIu64 ": %s", guest, why);
        return 0;
}

/* What the cluster of a guest offset is. ret_hole: guest bytes from there on without an L2 table, else 0. */
static int lookup(struct image *img, uint64_t guest, struct qcow2_mapping *ret, uint64_t *ret_hole,
                  struct err *err)
{
        struct qcow2_image *s = img->state;
        uint64_t l2, reach = qcow2_l2_reach(&s->q);
        const uint8_t *entry;
        const char *why;
        int r = l1_lookup(img, guest, &l2, err);

        if (r < 0)
                return r;
        if (l2 == 0) {
                *ret = (struct qcow2_mapping){.kind = QCOW2_HOLE};
                *ret_hole = reach - guest % reach;
                return 0;
        }
        *ret_hole = 0;
        if (s->l2_at != l2) {
                s->l2_at = NOWHERE;
                r = source_read(&img->src, s->l2, (size_t)s->q.cluster_size, l2, err);
                if (r < 0)
                        return err_wrap(err, r, "L2 table");
                s->l2_at = l2;
        }
        entry = s->l2 + (guest % reach >> s->q.cluster_bits) * qcow2_l2_entry_len(&s->q);
        why = qcow2_l2_entry(&s->q, get_be64(entry), s->q.extended ? get_be64(entry + 8) : 0, ret);
        if (why)
                return err_set(err, -EBADMSG, "guest offset %" PRIu64 ": %s", guest, why);
        return 0;
}

/* What lies at a guest offset, and for how many bytes. */
static int piece_at(struct image *img, uint64_t guest, struct piece *ret, struct err *err)
{
        struct qcow2_image *s = img->state;
        uint64_t within = guest % s->q.cluster_size, hole;
        struct piece p = {.from = QCOW2_FILE, .len = s->q.cluster_size - within};
        int r = lookup(img, guest, &p.m, &hole, err);

        if (r < 0)
                return r;
        if (p.m.kind != QCOW2_COMPRESSED)
                p.from = qcow2_subcluster(&s->q, &p.m, within, &p.len);
        p.len = MAX_OF(p.len, hole);
        p.host = p.m.host + within;
        if (p.from == QCOW2_BELOW && guest < s->below.size)
                p.len = MIN_OF(p.len, s->below.size - guest);
        else if (p.from == QCOW2_BELOW)
                p.from = QCOW2_ZEROS;
        *ret = p;
        return 0;
}

static int decompress(struct image *img, const struct qcow2_mapping *m, uint64_t guest, struct err *err)
{
        struct qcow2_image *s = img->state;
        uint64_t len = m->len;
        size_t used;
        int r;

        if (s->guest == guest)
                return 0;
        if (!s->inflater) {
                s->packed = malloc((size_t)(2 * s->q.cluster_size)); /* the most that an entry can name */
                s->cluster = malloc((size_t)s->q.cluster_size);
                if (!s->packed || !s->cluster || inflater_new(s->q.zstd, &s->inflater) < 0) {
                        freep(&s->packed);
                        freep(&s->cluster);
                        s->packed = s->cluster = NULL;
                        return err_set(err, -ENOMEM, "out of memory");
                }
        }
        if (m->host >= img->src.size)
                return err_set(err, -EBADMSG, "guest offset %" PRIu64 ": its data lies beyond the file",
                               guest);
        len = MIN_OF(len, img->src.size - m->host); /* the last sector may be cut short */
        r = source_read(&img->src, s->packed, (size_t)len, m->host, err);
        if (r < 0)
                return r;
        s->guest = NOWHERE;
        r = inflater_run(s->inflater, s->packed, (size_t)len, s->cluster, (size_t)s->q.cluster_size, &used,
                         err);
        if (r < 0)
                return err_wrap(err, r, "guest offset %" PRIu64, guest);
        s->guest = guest;
        return 0;
}

static int qcow2_read(struct image *img, uint8_t *buf, size_t len, uint64_t offset, struct err *err)
{
        struct qcow2_image *s = img->state;

        while (len > 0) {
                uint64_t within = offset % s->q.cluster_size;
                size_t n = (size_t)MIN_OF((uint64_t)len, s->q.cluster_size - within);
                struct piece p;
                bool mixed;
                int r = piece_at(img, offset, &p, err);

                if (r < 0)
                        return r;
                mixed = s->q.extended && p.len < n; /* never of a compressed cluster */
                n = mixed ? n : (size_t)MIN_OF((uint64_t)len, p.len);
                if (p.m.kind == QCOW2_COMPRESSED) {
                        r = decompress(img, &p.m, offset - within, err);
                        if (r == 0)
                                memcpy(buf, s->cluster + within, n);
                } else if (mixed) {
                        r = qcow2_mixed_read(&s->q, &p.m, &img->src, &s->below, buf, s->spare, n, offset,
                                             err);
                } else if (p.from == QCOW2_FILE) {
                        r = source_read(&img->src, buf, n, p.host, err);
                } else if (p.from == QCOW2_BELOW) {
                        r = source_read(&s->below, buf, n, offset, err);
                } else {
                        memset(buf, 0, n);
                }
                if (r < 0)
                        return r;
                buf += n;
                len -= n;
                offset += n;
        }
        return 0;
}

static int qcow2_extent(struct image *img, uint64_t offset, uint64_t *ret_len, bool *ret_data,
                        struct err *err)
{
        struct qcow2_image *s = img->state;
        uint64_t at = offset;
        bool data = false;

        while (at < img->size) {
                struct piece p;
                bool d;
                int r = piece_at(img, at, &p, err);

                if (r < 0)
                        return r;
                d = p.from != QCOW2_ZEROS;
                if (p.m.kind == QCOW2_DATA && p.from == QCOW2_FILE && s->q.cluster_size >= HOLE_MIN)
                        d = source_hole(&img->src, p.host) < p.len;
                if (at == offset)
                        data = d;
                else if (d != data)
                        break;
                at += p.len;
                if (data && at - offset >= EXTENT_DATA)
                        break;
        }
        *ret_len = MIN_OF(at, img->size) - offset;
        *ret_data = data;
        return 0;
}

static const struct image_ops qcow2_ops = {qcow2_close, qcow2_read, qcow2_extent};

static int header_read(struct image *img, uint8_t *head, struct image_info *info, struct qcow2_image *s,
                       struct err *err)
{
        size_t len = (size_t)MIN_OF(img->src.size, (uint64_t)FORMAT_HEAD_LEN);
        int r = source_read(&img->src, head, len, 0, err);

        if (r == 0)
                head_check(head, len, NULL, img->src.size, IMAGE_QCOW2, info, &s->q);
        return r;
}

static int open_checked(struct image *img, struct qcow2_image *s, struct err *err)
{
        s->l2 = malloc((size_t)s->q.cluster_size);
        s->spare = s->q.extended ? malloc((size_t)s->q.cluster_size) : NULL;
        if (!s->l2 || (s->q.extended && !s->spare))
                return err_set(err, -ENOMEM, "out of memory");
        s->l1_first = s->l2_at = s->guest = NOWHERE;
        img->state = s;
        img->ops = &qcow2_ops;
        return 0;
}

int qcow2_open(struct image *img, struct err *err)
{
        _cleanup_(freep) uint8_t *head = malloc(FORMAT_HEAD_LEN);
        struct qcow2_image *s = calloc(1, sizeof(*s));
        struct image_info info;
        int r = head && s ? header_read(img, head, &info, s, err) : err_set(err, -ENOMEM, "out of memory");

        if (r == 0 && info.n_refusals > 0)
                r = refusal_error(&info, err);
        else if (r == 0 && s->q.size != img->size)
                r = err_set(err, -EBADMSG, "the image has changed since it was inspected");
        if (r == 0)
                r = open_checked(img, s, err);
        if (r < 0)
                qcow2_close(s);
        return r;
}

int qcow2_open_overlay(struct image *img, const char *backing, const struct source *below, struct err *err)
{
        _cleanup_(freep) uint8_t *head = calloc(1, FORMAT_HEAD_LEN);
        struct qcow2_image *s = calloc(1, sizeof(*s));
        struct image_info info;
        int r;

        if (!head || !s) {
                free(s);
                return err_set(err, -ENOMEM, "out of memory");
        }
        r = header_read(img, head, &info, s, err);
        if (r == 0)
                r = overlay_check(head, &info, &s->q, img->size, backing, err);
        if (r == 0)
                r = open_checked(img, s, err);
        if (r < 0) {
                qcow2_close(s);
                return r;
        }
        img->src = overlay_file_source(&s->file, &img->src, s->q.cluster_size);
        if (below)
                s->below = *below;
        return 0;
}
