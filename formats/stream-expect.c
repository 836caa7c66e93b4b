/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

#define EXPECT_MAX ((size_t)1 << 20) /* 32 MiB */
#define KEPT_BYTES_MAX ((size_t)16 << 20)
#define KEPT_PIECES_MAX 4096u /* bounds the work of a split, too */
#define KEPT_PIECE_LEN ((size_t)64 * 1024)

/* --- a binary heap, the smallest host offset first
 * --------------------------------------------------------------- */

int expect_add(struct expect_heap *h, const struct expect *e, struct err *err)
{
        size_t i;

        if (h->n == h->room) {
                size_t room = h->room ? h->room * 2 : 64;
                struct expect *bigger;

                if (h->n >= EXPECT_MAX)
                        return err_set(err, -EBADMSG,
                                       "table-order: too much data is expected at once (%zu pieces): let "
                                       "`wherry image add` convert the image",
                                       h->n);
                bigger = reallocarray(h->items, room, sizeof(*h->items));
                if (!bigger)
                        return err_set(err, -ENOMEM, "out of memory");
                h->items = bigger;
                h->room = room;
        }
        for (i = h->n++; i > 0 && h->items[(i - 1) / 2].host > e->host; i = (i - 1) / 2)
                h->items[i] = h->items[(i - 1) / 2];
        h->items[i] = *e;
        return 0;
}

void expect_pop(struct expect_heap *h)
{
        struct expect last = h->items[--h->n];
        size_t i = 0;

        for (;;) {
                size_t child = 2 * i + 1;

                if (child + 1 < h->n && h->items[child + 1].host < h->items[child].host)
                        child++;
                if (child >= h->n || h->items[child].host >= last.host)
                        break;
                h->items[i] = h->items[child];
                i = child;
        }
        h->items[i] = last;
}

/* --- bytes kept for a table that comes later
 * --------------------------------------------------------------------- */

static void forget_oldest(struct kept *k)
{
        k->bytes -= k->pieces[0].len;
        free(k->pieces[0].memory);
        k->n--;
        memmove(k->pieces, k->pieces + 1, k->n * sizeof(*k->pieces));
}

/* Opens a place at index i for a piece with a copy of the bytes. */
static int piece_insert(struct kept *k, size_t i, const uint8_t *buf, size_t len, uint64_t host,
                        struct err *err)
{
        uint8_t *data = malloc(len);

        if (k->n == k->room && data) {
                size_t room = k->room ? k->room * 2 : 16;
                struct kept_piece *bigger = reallocarray(k->pieces, room, sizeof(*k->pieces));

                if (!bigger) {
                        free(data);
                        data = NULL;
                } else {
                        k->pieces = bigger;
                        k->room = room;
                }
        }
        if (!data)
                return err_set(err, -ENOMEM, "out of memory");
        memcpy(data, buf, len);
        memmove(k->pieces + i + 1, k->pieces + i, (k->n - i) * sizeof(*k->pieces));
        k->pieces[i] = (struct kept_piece){host, len, data, data};
        k->n++;
        k->bytes += len;
        return 0;
}

int kept_add(struct kept *k, const uint8_t *buf, size_t len, uint64_t host, struct err *err)
{
        while (len > 0) {
                struct kept_piece *last = k->n > 0 ? &k->pieces[k->n - 1] : NULL;
                size_t n = MIN_OF(len, KEPT_PIECE_LEN);

                if (last && last->host + last->len == host && last->len < KEPT_PIECE_LEN &&
                    last->data == last->memory) {
                        uint8_t *bigger;

                        n = MIN_OF(n, KEPT_PIECE_LEN - last->len);
                        bigger = realloc(last->data, last->len + n);
                        if (!bigger)
                                return err_set(err, -ENOMEM, "out of memory");
                        memcpy(bigger + last->len, buf, n);
                        last->data = last->memory = bigger;
                        last->len += n;
                        k->bytes += n;
                } else {
                        int r = piece_insert(k, k->n, buf, n, host, err);

                        if (r < 0)
                                return r;
                }
                while (k->bytes > KEPT_BYTES_MAX || k->n > KEPT_PIECES_MAX)
                        forget_oldest(k);
                buf += n;
                len -= n;
                host += n;
        }
        return 0;
}

/* The index of the piece that holds the byte at host, or k->n. */
static size_t piece_index(const struct kept *k, uint64_t host)
{
        size_t low = 0, high = k->n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (k->pieces[mid].host <= host)
                        low = mid + 1;
                else
                        high = mid;
        }
        if (low == 0 || host - k->pieces[low - 1].host >= k->pieces[low - 1].len)
                return k->n;
        return low - 1;
}

const uint8_t *kept_find(const struct kept *k, uint64_t host, size_t *ret_len)
{
        size_t i = piece_index(k, host);

        if (i == k->n)
                return NULL;
        *ret_len = k->pieces[i].len - (size_t)(host - k->pieces[i].host);
        return k->pieces[i].data + (host - k->pieces[i].host);
}

int kept_drop(struct kept *k, uint64_t host, size_t len, struct err *err)
{
        size_t i = piece_index(k, host), before, after;
        struct kept_piece *p = &k->pieces[i];

        before = (size_t)(host - p->host);
        after = p->len - before - len;
        if (before == 0 && after > 0) {
                p->host += len;
                p->data += len;
                p->len -= len;
                k->bytes -= len;
                return 0;
        }
        /* beyond the limit the rest is forgotten: it bounds what many small splits cost */
        if (after > 0 && k->n < KEPT_PIECES_MAX) {
                int r = piece_insert(k, i + 1, p->data + before + len, after, host + len, err);

                if (r < 0)
                        return r;
                p = &k->pieces[i]; /* the array may have moved */
        }
        k->bytes -= p->len - before;
        p->len = before;
        if (before == 0) {
                free(p->memory);
                k->n--;
                memmove(k->pieces + i, k->pieces + i + 1, (k->n - i) * sizeof(*k->pieces));
        }
        return 0;
}

void kept_done(struct kept *k)
{
        while (k->n > 0)
                forget_oldest(k);
        free(k->pieces);
        k->pieces = NULL;
}
