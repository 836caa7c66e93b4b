/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/cli/sparse.h"

/* A disk in memory with a map of extents, and an encoder's output put together again from the format's text.
 */

#define BLOCK 4096u

struct disk {
        uint8_t *bytes;
        uint64_t size;
        bool *hole;       /* per block: reported as a hole */
        uint64_t fail_at; /* reads at or beyond fail; 0: none */
        uint64_t bytes_read;
};

static int disk_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct disk *d = state;

        assert_true(offset + len <= d->size);
        if (d->fail_at && offset + len > d->fail_at)
                return err_set(err, -EIO, "sector unreadable");
        memcpy(buf, d->bytes + offset, len);
        d->bytes_read += len;
        return 0;
}

static int disk_extent(void *state, uint64_t offset, uint64_t *ret_len, bool *ret_data, struct err *err)
{
        struct disk *d = state;
        bool hole = d->hole[offset / BLOCK];
        uint64_t end = offset;

        while (end < d->size && d->hole[end / BLOCK] == hole)
                end = MIN_OF((end / BLOCK + 1) * BLOCK, d->size);
        *ret_len = end - offset;
        *ret_data = !hole;
        return 0;
}

static struct disk disk_make(uint64_t size)
{
        struct disk d = {
            .bytes = calloc(1, size), .size = size, .hole = calloc(size / BLOCK + 1, sizeof(bool))};

        assert_non_null(d.bytes);
        assert_non_null(d.hole);
        return d;
}

static void disk_free(struct disk *d)
{
        free(d->bytes);
        free(d->hole);
}

/* Reads the whole stream in pieces of `piece` bytes. */
static uint8_t *encode(struct disk *d, size_t piece, size_t *ret_len)
{
        struct sparse_input in = {.size = d->size, .read = disk_read, .extent = disk_extent, .state = d};
        struct sparse_encoder *s = NULL;
        struct err err = {0};
        uint8_t *out = NULL;
        size_t len = 0;
        ssize_t n;

        assert_int_equal(sparse_encoder_new(&in, &s, &err), 0);
        do {
                out = realloc(out, len + piece);
                assert_non_null(out);
                n = sparse_encoder_read(s, out + len, piece, &err);
                assert_true(n >= 0);
                len += (size_t)n;
        } while (n > 0);
        assert_int_equal(sparse_encoder_read(s, out, 0, &err), 0);
        sparse_encoder_free(s);
        *ret_len = len;
        return out;
}

/* Takes the stream apart and checks every rule; returns the number of frames with data. */
static unsigned decode_check(const struct disk *d, const uint8_t *p, size_t len, uint64_t *ret_payload)
{
        uint8_t *again = calloc(1, d->size);
        uint64_t offset, last = 0, payload = 0;
        unsigned frames = 0;
        uint32_t n;

        assert_non_null(again);
        for (;;) {
                assert_true(len >= 12);
                memcpy(&offset, p, 8);
                memcpy(&n, p + 8, 4);
                offset = be64toh(offset);
                n = be32toh(n);
                p += 12;
                len -= 12;
                if (n == 0)
                        break;
                assert_true(n <= 1 << 20);
                assert_true(offset >= last);
                assert_true(offset + n <= d->size);
                assert_true(len >= n);
                memcpy(again + offset, p, n);
                last = offset + n;
                payload += n;
                frames++;
                p += n;
                len -= n;
        }
        assert_int_equal(offset, d->size);
        assert_int_equal(len, 0);
        assert_memory_equal(again, d->bytes, d->size);
        free(again);
        *ret_payload = payload;
        return frames;
}

static void an_empty_disk_is_its_end_frame(void **state)
{
        struct disk d = disk_make(10 * BLOCK);
        uint64_t payload;
        uint8_t *out;
        size_t len;

        memset(d.hole, 1, 10);
        out = encode(&d, 100, &len);
        assert_int_equal(len, 12);
        assert_int_equal(decode_check(&d, out, len, &payload), 0);
        assert_int_equal(d.bytes_read, 0);
        free(out);
        disk_free(&d);
}

static void the_bytes_on_the_wire_are_the_formats(void **state)
{
        static const uint8_t expected_head[12] = {0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x10, 0};
        static const uint8_t expected_end[12] = {0, 0, 0, 0, 0, 0, 0x20, 5, 0, 0, 0, 0};
        struct disk d = disk_make(2 * BLOCK + 5);
        uint8_t *out;
        size_t len;

        memset(d.bytes + BLOCK, 0xaa, BLOCK);
        out = encode(&d, 1 << 16, &len);
        assert_int_equal(len, 12 + BLOCK + 12);
        assert_memory_equal(out, expected_head, 12);
        assert_memory_equal(out + 12 + BLOCK, expected_end, 12);
        free(out);
        disk_free(&d);
}

static void zeros_inside_data_are_not_sent(void **state)
{
        struct disk d = disk_make(3 << 20);
        uint64_t payload;
        uint8_t *out;
        size_t len;

        d.bytes[0] = 1;
        d.bytes[(1 << 20) - 1] = 2; /* at the end of the first chunk */
        d.bytes[1 << 20] = 3;       /* at the begin of the second */
        out = encode(&d, 4096, &len);
        assert_int_equal(decode_check(&d, out, len, &payload), 3);
        assert_int_equal(payload, 3 * BLOCK);
        free(out);
        disk_free(&d);
}

static void any_disk_comes_back_whole_in_any_pieces(void **state)
{
        static const size_t pieces[] = {1, 7, 11, 12, 13, 4096, 65536, 3 << 20};
        unsigned seed = 4711;

        for (size_t k = 0; k < ARRAY_SIZE(pieces) * 4; k++) {
                struct disk d =
                    disk_make(pieces[k % ARRAY_SIZE(pieces)] < 100 ? 50000 + k : (2 << 20) + 511 * k);
                struct sparse_input in = {
                    .size = d.size, .read = disk_read, .extent = disk_extent, .state = &d};
                uint64_t payload, data = 0;
                uint8_t *out;
                size_t len;

                for (uint64_t b = 0; b * BLOCK < d.size; b++) {
                        unsigned kind = (unsigned)rand_r(&seed) % 4;

                        d.hole[b] = kind == 0;
                        if (kind >= 2)
                                for (uint64_t i = b * BLOCK; i < MIN_OF((b + 1) * BLOCK, d.size); i++)
                                        d.bytes[i] = (uint8_t)rand_r(&seed);
                }
                assert_int_equal(sparse_data_size(&in, &data, NULL), 0);
                out = encode(&d, pieces[k % ARRAY_SIZE(pieces)], &len);
                decode_check(&d, out, len, &payload);
                assert_int_equal(d.bytes_read, data);
                assert_true(payload <= data);
                free(out);
                disk_free(&d);
        }
}

static void an_unreadable_disk_is_an_error(void **state)
{
        struct disk d = disk_make(4 << 20);
        struct sparse_input in = {.size = d.size, .read = disk_read, .extent = disk_extent, .state = &d};
        struct sparse_encoder *s = NULL;
        struct err err = {0};
        uint8_t *buf = malloc(8 << 20);
        ssize_t n;

        memset(d.bytes, 1, d.size);
        d.fail_at = 2 << 20;
        assert_int_equal(sparse_encoder_new(&in, &s, &err), 0);
        do
                n = sparse_encoder_read(s, buf, 100000, &err);
        while (n > 0);
        assert_int_equal(n, -EIO);
        assert_string_equal(err.text, "sector unreadable");
        assert_int_equal(sparse_encoder_done(s), 2 << 20);
        sparse_encoder_free(s);
        free(buf);
        disk_free(&d);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(an_empty_disk_is_its_end_frame),
            cmocka_unit_test(the_bytes_on_the_wire_are_the_formats),
            cmocka_unit_test(zeros_inside_data_are_not_sent),
            cmocka_unit_test(any_disk_comes_back_whole_in_any_pieces),
            cmocka_unit_test(an_unreadable_disk_is_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
