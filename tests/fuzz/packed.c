/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/packed.h"

#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"

#define SECTOR UINT64_C(512)
#define HEAD 4u
#define RECORD_HEAD 6u

static int packed_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct packed *p = state;

        memset(buf, 0, len);
        p->reads++;
        p->read_bytes += len;
        for (size_t at = HEAD; at + RECORD_HEAD <= p->size;) {
                uint64_t where = get_le32(p->data + at) * SECTOR, from, to;
                size_t n = get_le16(p->data + at + 4);

                at += RECORD_HEAD;
                n = MIN_OF(n, p->size - at);
                from = MAX_OF(where, offset);
                to = MIN_OF(where + n, offset + len);
                if (from < to)
                        memcpy((uint8_t *)buf + (from - offset), p->data + at + (from - where), to - from);
                at += n;
        }
        return 0;
}

struct source packed_source(struct packed *p, const uint8_t *data, size_t size)
{
        *p = (struct packed){.data = data, .size = size};
        return (struct source){
            .size = size >= HEAD ? get_le32(data) * SECTOR : 0, .read = packed_read, .state = p};
}
