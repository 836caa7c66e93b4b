/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/sparse.h"

#define DISK 4096

struct out {
        uint64_t size;
        unsigned begins;
        uint8_t disk[DISK];
};

static int begin(void *state, uint64_t virtual_size, struct err *err)
{
        struct out *o = state;

        o->size = virtual_size;
        o->begins++;
        return virtual_size > DISK ? err_set(err, -EFBIG, "too large") : 0;
}

static int data(void *state, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct out *o = state;

        assert_int_equal(o->begins, 1);
        assert_true(offset + len <= DISK);
        memcpy(o->disk + offset, buf, len);
        return 0;
}

struct stream {
        uint8_t bytes[8192];
        size_t n;
};

static void frame(struct stream *s, uint64_t offset, uint32_t len, const char *text)
{
        uint64_t o = htobe64(offset);
        uint32_t l = htobe32(len);

        memcpy(s->bytes + s->n, &o, 8);
        memcpy(s->bytes + s->n + 8, &l, 4);
        s->n += 12;
        if (text) {
                memcpy(s->bytes + s->n, text, len);
                s->n += len;
        }
}

/* Decodes in pieces of `step` bytes. */
static int decode(const struct stream *s, uint64_t size, size_t step, struct out *o, struct err *err)
{
        const struct sparse_sink sink = {.begin = begin, .data = data, .state = o};
        struct sparse sp;
        int r;

        memset(o, 0, sizeof(*o));
        r = sparse_init(&sp, size, &sink, err);
        for (size_t at = 0; at < s->n && r == 0; at += step)
                r = sparse_push(&sp, s->bytes + at, MIN_OF(step, s->n - at), err);
        return r < 0 ? r : sparse_finish(&sp, err);
}

static void test_any_pieces(void **state)
{
        struct stream s = {.n = 0};
        struct out o;

        frame(&s, 10, 5, "hello");
        frame(&s, 15, 1, "!");
        frame(&s, 4091, 5, "world");
        frame(&s, DISK, 0, NULL);
        for (size_t step = 1; step <= s.n; step++) {
                assert_int_equal(decode(&s, DISK, step, &o, NULL), 0);
                assert_int_equal(o.size, DISK);
                assert_memory_equal(o.disk + 10, "hello!", 7);
                assert_memory_equal(o.disk + 4091, "world", 5);
        }
}

static void test_size_in_front(void **state)
{
        struct stream s = {.n = 0};
        struct out o;

        frame(&s, DISK, 0, NULL);
        frame(&s, 0, 1, "x");
        frame(&s, DISK, 0, NULL);
        assert_int_equal(decode(&s, UINT64_MAX, 7, &o, NULL), 0);
        assert_int_equal(o.disk[0], 'x');
}

static void test_all_hole(void **state)
{
        struct stream s = {.n = 0};
        struct out o;

        frame(&s, DISK, 0, NULL);
        assert_int_equal(decode(&s, DISK, 12, &o, NULL), 0);
        assert_int_equal(o.begins, 1);
}

static void refused(const struct stream *s, uint64_t size, const char *text)
{
        struct err err = {0};
        struct out o;

        for (size_t step = 1; step < 20; step++) {
                assert_int_equal(decode(s, size, step, &o, &err), -EBADMSG);
                if (!strstr(err.text, text))
                        fail_msg("wanted \"%s\", got \"%s\"", text, err.text);
        }
}

static void test_refusals(void **state)
{
        struct stream s = {.n = 0};

        refused(&s, DISK, "truncated");
        frame(&s, 100, 5, "hello");
        refused(&s, DISK, "truncated");
        refused(&s, UINT64_MAX, "size=BYTES");
        frame(&s, 104, 1, "x");
        refused(&s, DISK, "a frame at 104 behind data that ends at 105");
        s.n = 0;
        frame(&s, 4095, 2, "xy");
        refused(&s, DISK, "2 bytes at 4095 lie beyond the disk's end at 4096");
        s.n = 0;
        frame(&s, UINT64_MAX - 1, 2, "xy");
        refused(&s, DISK, "beyond the disk's end");
        s.n = 0;
        frame(&s, 0, SPARSE_FRAME_MAX + 1, NULL);
        refused(&s, DISK, "the limit is");
        s.n = 0;
        frame(&s, DISK - 512, 0, NULL);
        refused(&s, DISK, "its last frame says 3584 bytes, its begin said 4096");
        s.n = 0;
        frame(&s, DISK, 0, NULL);
        s.bytes[s.n++] = 0;
        refused(&s, DISK, "truncated"); /* one byte of a further frame */
        s.n--;
        frame(&s, DISK, 0, NULL);
        refused(&s, DISK, "after its last frame");
        s.n = 0;
        frame(&s, 0, 0, NULL);
        refused(&s, UINT64_MAX, "0 bytes");
}

/* Any bytes: an error or success, never a crash or a call outside the disk (the sink checks). */
static void test_random(void **state)
{
        struct out o;

        for (int i = 0; i < 5000; i++) {
                struct stream s = {.n = 1 + random_u64() % 100};

                for (size_t k = 0; k < s.n; k++)
                        s.bytes[k] = random_u64() % 3 ? 0 : (uint8_t)random_u64();
                decode(&s, i % 2 ? DISK : UINT64_MAX, 1 + random_u64() % 50, &o, NULL);
        }
}

static void test_type(void **state)
{
        uint64_t size;

        assert_true(sparse_type("application/vnd.wherry.sparse"));
        assert_true(sparse_type("Application/vnd.wherry.sparse; size=1"));
        assert_false(sparse_type("application/vnd.wherry.sparser"));
        assert_false(sparse_type("application/octet-stream"));
        assert_false(sparse_type(NULL));
        assert_int_equal(sparse_type_size(SPARSE_TYPE, &size, NULL), 0);
        assert_true(size == UINT64_MAX);
        assert_int_equal(sparse_type_size(SPARSE_TYPE ";size=4096", &size, NULL), 0);
        assert_int_equal(size, 4096);
        assert_int_equal(sparse_type_size(SPARSE_TYPE "; size=", &size, NULL), -EINVAL);
        assert_int_equal(sparse_type_size(SPARSE_TYPE "; size=-1", &size, NULL), -EINVAL);
        assert_int_equal(sparse_type_size(SPARSE_TYPE "; size=1x", &size, NULL), -EINVAL);
        assert_int_equal(sparse_type_size(SPARSE_TYPE "; size=99999999999999999999", &size, NULL), -EINVAL);
        assert_int_equal(sparse_type_size(SPARSE_TYPE "; charset=x", &size, NULL), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_any_pieces), cmocka_unit_test(test_size_in_front),
            cmocka_unit_test(test_all_hole),   cmocka_unit_test(test_refusals),
            cmocka_unit_test(test_random),     cmocka_unit_test(test_type),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
