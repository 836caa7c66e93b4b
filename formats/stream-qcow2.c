/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"

/*
 * The file passes once. What is expected at which place is in a heap; the first expectation is the next to
 * be met. Bytes that nothing expects are kept for a while (docs/formats/qcow2.md says why). An expectation
 * that begins before the place reached so far is met from what was kept, or the image is refused.
 */
struct stream_qcow2 {
        struct qcow2 q;
        uint64_t file_size; /* UINT64_MAX: unknown */
        struct stream_out *out;
        struct expect_heap expected;
        struct kept kept;
        uint64_t at;    /* the place in the file that has been dealt with */
        bool ended;     /* no further bytes will come */
        uint8_t *carry; /* bytes from `at` on that do not suffice for the first expectation */
        size_t n_carry;
        struct inflater *inflater;
        uint8_t *cluster;  /* decompressed */
        uint64_t expanded; /* guest bytes that were */
        struct expect
            run; /* data clusters that follow each other in both the file and the disk; len 0: none */
};

static int refuse_place(uint64_t host, uint64_t at, struct err *err)
{
        return err_set(err, -EBADMSG,
                       "table-order: the bytes at offset %" PRIu64
                       " are used twice or came before the table that names "
                       "them (now at %" PRIu64 "): let `wherry image add` convert the image",
                       host, at);
}

struct stream_qcow2 *stream_qcow2_free(struct stream_qcow2 *s)
{
        if (!s)
                return NULL;
        inflater_free(s->inflater);
        kept_done(&s->kept);
        free(s->expected.items);
        free(s->carry);
        free(s->cluster);
        free(s);
        return NULL;
}

/* Decompresses one cluster; ret_used: how much of buf it took. */
static int take_compressed(struct stream_qcow2 *s, const struct expect *e, const uint8_t *buf, size_t len,
                           size_t *ret_used, struct err *err)
{
        uint64_t n = MIN_OF(s->q.cluster_size, s->q.size - e->guest);
        int r = inflater_run(s->inflater, buf, len, s->cluster, (size_t)s->q.cluster_size, ret_used, err);

        if (r < 0)
                return err_wrap(err, r, "guest offset %" PRIu64, e->guest);
        s->expanded += n;
        if (!expansion_fits(s->expanded, s->file_size != UINT64_MAX ? s->file_size : s->at + len))
                return err_set(err, -EBADMSG,
                               "expansion: %" PRIu64
                               " compressed bytes of the disk are out of proportion to the file",
                               s->expanded);
        return stream_out_add(s->out, s->cluster, (size_t)n, e->guest, err);
}

static int take_table(struct stream_qcow2 *s, const struct expect *e, const uint8_t *buf, size_t n,
                      uint64_t table_end, struct err *err);

static unsigned table_entry_len(const struct stream_qcow2 *s, const struct expect *e)
{
        return e->kind == EXPECT_L2 ? qcow2_l2_entry_len(&s->q) : 8;
}

/* An expectation that begins before `at`: all of it has to be among the kept bytes. */
static int meet_from_kept(struct stream_qcow2 *s, const struct expect *e, struct err *err)
{
        _cleanup_(freep) uint8_t *buf = malloc((size_t)e->len);
        size_t have = 0, used, n;
        int r = 0;

        if (!buf)
                return err_set(err, -ENOMEM, "out of memory");
        while (have < e->len) {
                const uint8_t *piece = kept_find(&s->kept, e->host + have, &n);

                if (!piece)
                        break;
                n = (size_t)MIN_OF((uint64_t)n, e->len - have);
                memcpy(buf + have, piece, n);
                have += n;
        }
        used = have;
        if (have == 0 || (have < e->len && e->kind != EXPECT_COMPRESSED))
                return refuse_place(e->host, s->at, err);
        if (e->kind == EXPECT_COMPRESSED)
                r = take_compressed(s, e, buf, have, &used, err);
        else if (e->kind == EXPECT_DATA)
                r = stream_out_add(s->out, buf, have, e->guest, err);
        for (size_t done = 0; r == 0 && done < used; done += n) {
                if (!kept_find(&s->kept, e->host + done, &n))
                        return refuse_place(e->host, s->at, err);
                n = MIN_OF(n, used - done);
                r = kept_drop(&s->kept, e->host + done, n, err);
        }
        if (r == 0 && e->kind == EXPECT_L2)
                r = take_table(s, e, buf, have, s->at, err);
        return r;
}

static bool ranges_meet(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
        return a < b + b_len && b < a + a_len;
}

/* `passed`: what lies before it is gone or kept. */
static int expect(struct stream_qcow2 *s, const struct expect *e, uint64_t passed, struct err *err)
{
        if (s->file_size != UINT64_MAX && e->host >= s->file_size)
                return err_set(err, -EBADMSG,
                               "truncated: a table names offset %" PRIu64 ", the file ends at %" PRIu64,
                               e->host, s->file_size);
        if (ranges_meet(e->host, e->len, 0, s->q.cluster_size) ||
            ranges_meet(e->host, e->len, s->q.refcount_offset, s->q.refcount_clusters * s->q.cluster_size))
                return err_set(err, -EBADMSG,
                               "overlap: the header or the refcount table at offset %" PRIu64
                               " is used as data",
                               e->host);
        if (e->host < passed)
                return meet_from_kept(s, e, err);
        return expect_add(&s->expected, e, err);
}

static int run_end(struct stream_qcow2 *s, uint64_t passed, struct err *err)
{
        struct expect run = s->run;

        s->run.len = 0;
        return run.len > 0 ? expect(s, &run, passed, err) : 0;
}

/* A run of data; those that follow each other are joined. */
static int take_data(struct stream_qcow2 *s, const struct expect *e, uint64_t passed, struct err *err)
{
        int r;

        /* only what is still to come is joined: what has passed is met cluster by cluster */
        if (s->run.len > 0 && s->run.host >= passed && s->run.host + s->run.len == e->host &&
            s->run.guest + s->run.len == e->guest) {
                s->run.len += e->len;
                return 0;
        }
        r = run_end(s, passed, err);
        s->run = *e;
        return r;
}

static int take_l2_entry(struct stream_qcow2 *s, uint64_t entry, uint64_t bitmap, uint64_t guest,
                         uint64_t passed, struct err *err)
{
        struct qcow2_mapping m;
        const char *why = qcow2_l2_entry(&s->q, entry, bitmap, &m);
        struct expect e = {m.host, m.len, guest, EXPECT_COMPRESSED};
        uint64_t end = MIN_OF(s->q.cluster_size, s->q.size - guest), run;
        int r = 0;

        if (why)
                return err_set(err, -EBADMSG, "reserved-bits: guest offset %" PRIu64 ": %s", guest, why);
        if (m.kind == QCOW2_HOLE)
                return 0;
        if (m.kind == QCOW2_COMPRESSED)
                return expect(s, &e, passed, err);
        for (uint64_t at = 0; r == 0 && at < end; at += run) {
                bool data = qcow2_subcluster(&s->q, &m, at, &run) == QCOW2_FILE;

                run = MIN_OF(run, end - at);
                e = (struct expect){m.host + at, run, guest + at, EXPECT_DATA};
                if (data)
                        r = take_data(s, &e, passed, err);
        }
        return r;
}

/* n bytes (whole entries) of a table from its first byte on that has not been taken. */
static int take_table(struct stream_qcow2 *s, const struct expect *e, const uint8_t *buf, size_t n,
                      uint64_t passed, struct err *err)
{
        uint64_t step = e->kind == EXPECT_L1 ? qcow2_l2_reach(&s->q) : s->q.cluster_size;
        uint64_t guest = e->guest;
        unsigned entry_len = table_entry_len(s, e);
        int r = 0;

        for (size_t i = 0; i + entry_len <= n && guest < s->q.size && r == 0;
             i += entry_len, guest += step) {
                uint64_t entry = get_be64(buf + i), bitmap = entry_len == 16 ? get_be64(buf + i + 8) : 0;
                struct expect l2 = {0, s->q.cluster_size, guest, EXPECT_L2};
                const char *why;

                if (entry == 0 && bitmap == 0)
                        continue;
                if (e->kind == EXPECT_L2) {
                        r = take_l2_entry(s, entry, bitmap, guest, passed, err);
                        continue;
                }
                why = qcow2_l1_entry(&s->q, entry, &l2.host);
                if (why)
                        r = err_set(err, -EBADMSG,
                                    "reserved-bits: L1 entry for guest offset %" PRIu64 ": %s", guest, why);
                else if (l2.host != 0)
                        r = expect(s, &l2, passed, err);
        }
        return r < 0 ? r : run_end(s, passed, err);
}

/* Meets as much of the first expectation as n bytes at its front allow; ret_used 0: it needs *ret_need
 * bytes. */
static int meet(struct stream_qcow2 *s, const uint8_t *buf, size_t n, size_t *ret_used, size_t *ret_need,
                struct err *err)
{
        struct expect *first = &s->expected.items[0], e = *first;
        size_t k = (size_t)MIN_OF((uint64_t)n, e.len);
        unsigned entry_len = table_entry_len(s, &e);

        *ret_used = 0;
        *ret_need = e.kind == EXPECT_COMPRESSED ? (size_t)e.len : e.kind == EXPECT_DATA ? 1 : entry_len;
        if (e.kind == EXPECT_COMPRESSED && (k == e.len || s->ended)) {
                expect_pop(&s->expected);
                return take_compressed(s, &e, buf, k, ret_used, err);
        }
        if (k < *ret_need)
                return 0;
        if (e.kind != EXPECT_DATA)
                k -= k % entry_len;
        *ret_used = k;
        if (k == e.len) {
                expect_pop(&s->expected);
        } else {
                /* stays the first: its place only moves up to where the next one begins, or that one
                 * overlaps */
                first->host += k;
                first->len -= k;
                first->guest +=
                    e.kind == EXPECT_DATA
                        ? k
                        : k / entry_len * (e.kind == EXPECT_L1 ? qcow2_l2_reach(&s->q) : s->q.cluster_size);
                for (size_t child = 1; child <= 2 && child < s->expected.n; child++)
                        if (s->expected.items[child].host < first->host)
                                return refuse_place(s->expected.items[child].host, first->host, err);
        }
        if (e.kind == EXPECT_DATA)
                return stream_out_add(s->out, buf, k, e.guest, err);
        return take_table(s, &e, buf, k, e.host + k, err);
}

/* Deals with a part of the n > 0 bytes at s->at: skipped or met. */
static int step(struct stream_qcow2 *s, const uint8_t *buf, size_t n, size_t *ret_used, size_t *ret_need,
                struct err *err)
{
        uint64_t next = s->expected.n > 0 ? s->expected.items[0].host : UINT64_MAX;
        int r;

        if (next < s->at)
                return refuse_place(next, s->at, err);
        if (next > s->at) {
                *ret_used = (size_t)MIN_OF((uint64_t)n, next - s->at);
                r = kept_add(&s->kept, buf, *ret_used, s->at, err);
        } else {
                r = meet(s, buf, n, ret_used, ret_need, err);
        }
        s->at += *ret_used;
        return r;
}

static size_t carry_room(const struct qcow2 *q)
{
        return (size_t)(2 * q->cluster_size); /* the most that a compressed cluster's entry can name */
}

int stream_qcow2_new(const struct qcow2 *q, uint64_t file_size, struct stream_out *out,
                     struct stream_qcow2 **ret, struct err *err)
{
        struct expect l1 = {q->l1_offset, UINT64_C(8) * q->l1_used, 0, EXPECT_L1};
        struct stream_qcow2 *s = calloc(1, sizeof(*s));
        int r = -ENOMEM;

        if (s) {
                s->q = *q;
                s->file_size = file_size;
                s->out = out;
                s->carry = malloc(carry_room(q));
                s->cluster = malloc((size_t)q->cluster_size);
                if (s->carry && s->cluster)
                        r = inflater_new(q->zstd, &s->inflater);
        }
        if (r < 0) {
                stream_qcow2_free(s);
                return err_set(err, r, "out of memory");
        }
        r = expect(s, &l1, 0, err);
        if (r < 0) {
                stream_qcow2_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

int stream_qcow2_push(struct stream_qcow2 *s, const uint8_t *buf, size_t len, struct err *err)
{
        size_t used = 0, need = 0;

        while (len > 0 || (s->ended && s->n_carry > 0)) {
                bool carried = s->n_carry > 0;
                size_t n;
                int r = step(s, carried ? s->carry : buf, carried ? s->n_carry : len, &used, &need, err);

                if (r < 0)
                        return r;
                if (carried && used > 0) {
                        s->n_carry -= used;
                        memmove(s->carry, s->carry + used, s->n_carry);
                } else if (used > 0) {
                        buf += used;
                        len -= used;
                } else {
                        if (len == 0) /* the end, inside a table: finish() reports it */
                                return 0;
                        n = MIN_OF(len, need - s->n_carry);
                        memcpy(s->carry + s->n_carry, buf, n);
                        s->n_carry += n;
                        buf += n;
                        len -= n;
                }
        }
        return 0;
}

int stream_qcow2_finish(struct stream_qcow2 *s, struct err *err)
{
        int r;

        s->ended = true;
        r = stream_qcow2_push(s, NULL, 0, err);
        if (r < 0)
                return r;
        if (s->expected.n > 0)
                return err_set(err, -EBADMSG,
                               "truncated: a table names offset %" PRIu64 ", the file ends at %" PRIu64,
                               s->expected.items[0].host, s->at + s->n_carry);
        return 0;
}
