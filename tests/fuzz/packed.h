/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/bytes.h"
#include "formats/formats.h"

/*
 * A packed file (fuzz-format.c has its layout) as a source that is never unpacked, so that a disk may be
 * large. Where records overlap the later one counts.
 */
struct packed {
        const uint8_t *data;
        size_t size;
        unsigned reads;
};

static inline int packed_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct packed *p = state;
        size_t at = 4;

        p->reads++;
        memset(buf, 0, len);
        while (p->size - at > 6) {
                const uint64_t where = get_le32(p->data + at) * UINT64_C(512);
                const size_t n = get_le16(p->data + at + 4), left = p->size - at - 6,
                             have = n < left ? n : left;
                const uint64_t begin = where > offset ? where : offset;
                const uint64_t end = where + have < offset + len ? where + have : offset + len;

                at += 6;
                if (begin < end)
                        memcpy((uint8_t *)buf + (begin - offset), p->data + at + (begin - where),
                               (size_t)(end - begin));
                at += have;
        }
        return 0;
}

/* size 0: no packed file. p has to live as long. */
static inline struct source packed_source(struct packed *p)
{
        const uint64_t size = p->size < 4 ? 0 : get_le32(p->data) * UINT64_C(512);

        return (struct source){.size = size, .read = packed_read, .state = p};
}
