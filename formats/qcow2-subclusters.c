/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/qcow2.h"

#include <string.h>

#include "common/util.h"
#include "formats/internal.h"

static enum qcow2_from subcluster_from(const struct qcow2_mapping *m, uint64_t i)
{
        return m->subclusters >> i & 1 ? QCOW2_FILE : m->zeros >> i & 1 ? QCOW2_ZEROS : QCOW2_BELOW;
}

enum qcow2_from qcow2_subcluster(const struct qcow2 *q, const struct qcow2_mapping *m, uint64_t within,
                                 uint64_t *ret_len)
{
        uint64_t size = q->cluster_size / 32, i = within / size, end = i + 1;
        enum qcow2_from from = subcluster_from(m, i);

        while (end < 32 && subcluster_from(m, end) == from)
                end++;
        *ret_len = end * size - within;
        return from;
}

/* The first and the last byte, and one more, of a request that come from one place. */
struct span {
        size_t start, end; /* end 0: none does */
};

static void spans_find(const struct qcow2 *q, const struct qcow2_mapping *m, uint64_t within, size_t n,
                       struct span ret[QCOW2_FROM_MAX])
{
        uint64_t run;

        for (size_t at = 0; at < n; at += (size_t)MIN_OF(run, (uint64_t)(n - at))) {
                struct span *s = &ret[qcow2_subcluster(q, m, within + at, &run)];

                if (s->end == 0)
                        s->start = at;
                s->end = at + (size_t)MIN_OF(run, (uint64_t)(n - at));
        }
}

int qcow2_mixed_read(const struct qcow2 *q, const struct qcow2_mapping *m, const struct source *file,
                     const struct source *below, uint8_t *buf, uint8_t *spare, size_t n, uint64_t guest,
                     struct err *err)
{
        struct span span[QCOW2_FROM_MAX] = {0}, *s = &span[QCOW2_BELOW];
        uint64_t within = guest % q->cluster_size, run;
        int r = 0;

        spans_find(q, m, within, n, span);
        memset(buf, 0, n);
        if (s->end > 0 && guest + s->start < below->size)
                r = source_read(
                    below, buf + s->start,
                    (size_t)MIN_OF((uint64_t)(s->end - s->start), below->size - guest - s->start),
                    guest + s->start, err);
        s = &span[QCOW2_FILE];
        if (r == 0 && s->end > 0)
                r = source_read(file, spare + s->start, s->end - s->start, m->host + within + s->start, err);
        for (size_t at = 0, len; r == 0 && at < n; at += len) {
                enum qcow2_from from = qcow2_subcluster(q, m, within + at, &run);

                len = (size_t)MIN_OF(run, (uint64_t)(n - at));
                if (from == QCOW2_FILE)
                        memcpy(buf + at, spare + at, len);
                else if (from == QCOW2_ZEROS)
                        memset(buf + at, 0, len);
        }
        return r;
}
