/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/util.h"
#include "imaged/fetch-internal.h"

/*
 * Reading at random: blocks, the least recently used one goes. A request that follows the one before asks
 * for twice as much, up to 4 MiB; any other for one block.
 */
static struct fetch_block *block_find(struct fetch *f, uint64_t number)
{
        for (size_t i = 0; i < FETCH_BLOCKS; i++) {
                if (f->blocks[i].data && f->blocks[i].number == number) {
                        f->blocks[i].used = ++f->clock;
                        return &f->blocks[i];
                }
        }
        return NULL;
}

static void block_keep(struct fetch *f, uint64_t number, const uint8_t *data, size_t len)
{
        struct fetch_block *b = block_find(f, number);

        for (size_t i = 0; !b && i < FETCH_BLOCKS; i++) {
                if (!f->blocks[i].data)
                        b = &f->blocks[i];
        }
        if (!b) {
                b = &f->blocks[0];
                for (size_t i = 1; i < FETCH_BLOCKS; i++) {
                        if (f->blocks[i].used < b->used)
                                b = &f->blocks[i];
                }
        }
        b->data = f->kept + (size_t)(b - f->blocks) * FETCH_BLOCK;
        memcpy(b->data, data, len);
        b->number = number;
        b->used = ++f->clock;
}

struct filling {
        uint8_t *buf;
        size_t len;
};

static int fill(void *state, const void *buf, size_t len, struct err *err)
{
        struct filling *to = state;

        memcpy(to->buf + to->len, buf, len); /* fetch_range() gives no more than was asked for */
        to->len += len;
        return 0;
}

/* Gets the block, and what a reader in order will want next. */
static int block_fetch(struct fetch *f, uint64_t number, struct err *err)
{
        uint64_t first = number * FETCH_BLOCK;
        struct filling to;
        size_t len;
        int r;

        if (!f->kept) /* by itself: a heap would keep it */
                f->kept =
                    mmap(NULL, FETCH_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (f->kept == MAP_FAILED)
                f->kept = NULL;
        if (!f->kept)
                return err_set(err, -ENOMEM, "out of memory");
        f->buf = f->kept + FETCH_BLOCKS * FETCH_BLOCK;
        f->ahead = number == f->next ? MIN_OF(f->ahead * 2, FETCH_AHEAD) : 1;
        len = (size_t)MIN_OF((uint64_t)f->ahead * FETCH_BLOCK, f->size - first);
        to = (struct filling){.buf = f->buf};
        r = fetch_range(f, first, first + len - 1, fill, &to, err);
        f->next = number + f->ahead;
        /* the last first: what is wanted now is the youngest */
        for (size_t n = r == 0 ? (len - 1) / FETCH_BLOCK + 1 : 0; n > 0; n--) {
                size_t at = (n - 1) * FETCH_BLOCK;

                block_keep(f, number + n - 1, f->buf + at, MIN_OF(FETCH_BLOCK, len - at));
        }
        return r;
}

int fetch_read(struct fetch *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        uint8_t *p = buf;

        if (!f->ranges || offset > f->size || len > f->size - offset)
                return err_set(err, -EINVAL, "%s: it has no %zu bytes at %llu", f->url, len,
                               (unsigned long long)offset);
        while (len > 0) {
                size_t within = (size_t)(offset % FETCH_BLOCK), n = MIN_OF(len, FETCH_BLOCK - within);
                struct fetch_block *b = block_find(f, offset / FETCH_BLOCK);

                if (!b) {
                        int r = block_fetch(f, offset / FETCH_BLOCK, err);

                        if (r < 0)
                                return r;
                        b = block_find(f, offset / FETCH_BLOCK);
                }
                memcpy(p, b->data + within, n);
                p += n;
                offset += n;
                len -= n;
        }
        return 0;
}
