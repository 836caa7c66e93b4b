/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/digest.h"
#include "imaged/manifest.h"
#include "imaged/pipeline.h"
#include "imaged/store/store.h"

#define MIB ((uint64_t)1 << 20)
#define SIZE (70 * MIB + 4096) /* more than all slots, and no whole number of chunks */

static struct store *store;
static uint8_t *disk; /* what the volume is to hold */

struct intake {
        char image[UUID_LEN + 1];
        struct volume *volume;
        struct digest *digest;
        struct pipeline *pipeline;
};

static int setup(void **state)
{
        struct err err = {0};

        disk = calloc(1, SIZE);
        for (size_t i = 0; i < SIZE; i++)
                disk[i] = (uint8_t)(i * 131 + (i >> 13) + (i >> 20) * 7);
        assert_int_equal(store_open("mem:", NULL, &store, &err), 0);
        return 0;
}

static int teardown(void **state)
{
        store = store_close(store);
        free(disk);
        return 0;
}

static struct intake intake_begin(uint64_t size, bool all_zeros)
{
        struct intake in = {0};

        uuid_random(in.image);
        assert_int_equal(volume_create(store, in.image, size, &in.volume, NULL), 0);
        assert_int_equal(digest_new(store, in.image, all_zeros, &in.digest, NULL), 0);
        assert_int_equal(pipeline_new(in.volume, in.digest, &in.pipeline, NULL), 0);
        return in;
}

static void intake_end(struct intake *in)
{
        pipeline_free(in->pipeline);
        digest_free(in->digest);
        volume_close(in->volume);
}

/* What of the disk is not in [from, to) of one of the holes is written, in pieces of odd lengths. */
static void write_range(struct intake *in, uint64_t from, uint64_t to)
{
        for (uint64_t at = from, n; at < to; at += n) {
                n = MIN_OF(1 + (at * 7919 + 13) % 300000, to - at);
                assert_int_equal(pipeline_write(in->pipeline, disk + at, (size_t)n, at, NULL), 0);
        }
}

static void sha256_of(const uint8_t *buf, size_t len, char ret[DIGEST_DIGITS + 1])
{
        uint8_t bytes[DIGEST_DIGITS / 2];

        assert_int_equal(gnutls_hash_fast(GNUTLS_DIG_SHA256, buf, len, bytes), 0);
        for (size_t i = 0; i < sizeof(bytes); i++)
                snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

/* Seals, and checks bytes, hash and manifest against the disk. */
static void check_whole(struct intake *in)
{
        char got[DIGEST_DIGITS + 1], want[DIGEST_DIGITS + 1];
        _cleanup_(freep) uint8_t *now = malloc(SIZE);
        struct manifest *m = NULL;
        unsigned parts = 0;

        assert_int_equal(pipeline_drain(in->pipeline, NULL), 0);
        in->pipeline = pipeline_free(in->pipeline);
        assert_int_equal(volume_seal(in->volume, NULL), 0);
        assert_int_equal(digest_finish(in->digest, in->volume, SIZE, got, &parts, NULL), 0);
        assert_int_equal(volume_read(in->volume, now, SIZE, 0, NULL), 0);
        assert_memory_equal(now, disk, SIZE);
        sha256_of(disk, SIZE, want);
        assert_string_equal(got, want);
        assert_int_equal(manifest_open(store, in->image, parts, &m, NULL), 0);
        for (uint64_t at = 0; at < SIZE; at += MANIFEST_CHUNK)
                assert_int_equal(
                    manifest_check(m, disk + at, MIN_OF(MANIFEST_CHUNK, (size_t)(SIZE - at)), NULL), 1);
        manifest_free(m);
        assert_int_equal(volume_remove(store, in->image, NULL), 0);
}

static void bytes_in_order(void **state)
{
        struct intake in = intake_begin(SIZE, false);

        write_range(&in, 0, 40 * MIB + 5);
        assert_int_equal(pipeline_drain(in.pipeline, NULL), 0); /* as before a resize; it goes on after it */
        write_range(&in, 40 * MIB + 5, SIZE);
        check_whole(&in);
        intake_end(&in);
}

static void holes_are_zeros(void **state)
{
        struct intake in = intake_begin(SIZE, false);

        memset(disk + 3 * MIB - 100, 0, 9 * MIB);
        memset(disk + SIZE - 5 * MIB, 0, 5 * MIB);
        write_range(&in, 0, 3 * MIB - 100);
        write_range(&in, 12 * MIB - 100, SIZE - 5 * MIB);
        check_whole(&in);
        intake_end(&in);
}

static void bytes_in_any_order(void **state)
{
        struct intake in = intake_begin(SIZE, false);

        memset(disk + 30 * MIB, 0, 8 * MIB); /* two chunks that nobody writes */
        write_range(&in, 38 * MIB, SIZE);
        write_range(&in, 10 * MIB + 1, 30 * MIB);
        write_range(&in, 0, 10 * MIB + 1);
        check_whole(&in);
        intake_end(&in);
}

/* The volume refuses what lies beyond its end; that error comes out, now or later, and nothing hangs. */
static void the_first_failure_is_the_one_reported(void **state)
{
        struct intake in = intake_begin(8 * MIB, false);
        struct err err = {0};
        int r = 0;

        for (uint64_t at = 4 * MIB; r == 0 && at < SIZE; at += MIB)
                r = pipeline_write(in.pipeline, disk, (size_t)MIB, at, &err);
        if (r == 0)
                r = pipeline_drain(in.pipeline, &err);
        assert_int_equal(r, -EINVAL);
        assert_non_null(strstr(err_text(&err), "lie beyond its end at 8388608"));
        err = (struct err){0};
        assert_int_equal(pipeline_write(in.pipeline, disk, 1, 0, &err), -EINVAL);
        assert_int_equal(pipeline_drain(in.pipeline, NULL), -EINVAL);
        intake_end(&in);
}

static void it_ends_at_any_time(void **state)
{
        for (uint64_t len = 0; len < 30 * MIB; len += 3 * MIB + 77) {
                struct intake in = intake_begin(SIZE, false);

                write_range(&in, 0, len);
                intake_end(&in);
        }
}

/* A SHA-256 costs what the data costs: of a disk of holes there is none, and it takes no time. */
static void holes_cost_no_hash(void **state)
{
        static const struct {
                bool all_zeros, hashed;
                uint64_t data, size;
        } cases[] = {
            {false, true, MIB, DIGEST_HOLES},
            {false, false, MIB, DIGEST_HOLES + 8 * MIB},
            {false, true, 40 * MIB, DIGEST_HOLES + 40 * MIB},
            {true, true, MIB, DIGEST_HOLES + 8 * MIB},
            {false, false, MIB, UINT64_C(8) << 40},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char image[UUID_LEN + 1], got[DIGEST_DIGITS + 1] = "?";
                struct digest *d = NULL;
                unsigned parts = 0;

                uuid_random(image);
                assert_int_equal(digest_new(store, image, cases[i].all_zeros, &d, NULL), 0);
                assert_int_equal(digest_data(d, disk, (size_t)cases[i].data, 0, NULL), 0);
                assert_int_equal(digest_finish(d, NULL, cases[i].size, got, &parts, NULL), 0);
                assert_int_equal(strlen(got), cases[i].hashed ? DIGEST_DIGITS : 0);
                assert_int_equal(parts,
                                 (cases[i].size / MANIFEST_CHUNK + MANIFEST_PART - 1) / MANIFEST_PART);
                digest_free(d);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(bytes_in_order, setup, teardown),
            cmocka_unit_test_setup_teardown(holes_are_zeros, setup, teardown),
            cmocka_unit_test_setup_teardown(bytes_in_any_order, setup, teardown),
            cmocka_unit_test_setup_teardown(the_first_failure_is_the_one_reported, setup, teardown),
            cmocka_unit_test_setup_teardown(it_ends_at_any_time, setup, teardown),
            cmocka_unit_test_setup_teardown(holes_cost_no_hash, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
