/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/manifest.h"
#include "imaged/store/store.h"

#define IMAGE "0d5e0f5c-2f0b-4c57-8d43-54bb0d6a3f10"
#define PART_BYTES ((uint64_t)MANIFEST_PART * MANIFEST_CHUNK)

static struct store *store;
static uint8_t *chunk; /* MANIFEST_CHUNK bytes that are not zeros */

static int setup(void **state)
{
        struct err err = {0};

        chunk = malloc(MANIFEST_CHUNK);
        for (size_t i = 0; i < MANIFEST_CHUNK; i++)
                chunk[i] = (uint8_t)(i * 7 + i / 251 + 1);
        assert_int_equal(store_open("mem:", NULL, &store, &err), 0);
        return 0;
}

static int teardown(void **state)
{
        store = store_close(store);
        free(chunk);
        return 0;
}

static struct manifest *begin(void)
{
        struct manifest *m = NULL;

        assert_int_equal(manifest_new(store, IMAGE, &m, NULL), 0);
        return m;
}

static unsigned finish(struct manifest *m)
{
        unsigned parts = 0;

        assert_int_equal(manifest_finish(m, &parts, NULL), 0);
        manifest_free(m);
        return parts;
}

static void hashes_are_those_of_the_chunks(void **state)
{
        struct manifest *m = begin();
        _cleanup_(json_decrefpp) json_t *doc = NULL;
        _cleanup_(freep) char *text = NULL;
        _cleanup_(freep) uint8_t *mixed = calloc(1, MANIFEST_CHUNK);
        XXH128_canonical_t canonical[3];
        char want[3 * 32 + 2];
        size_t n = 0;

        /* data in odd pieces; then zeros, data and zeros; then zeros only; then a short end */
        for (size_t at = 0; at < MANIFEST_CHUNK; at += 100003)
                assert_int_equal(
                    manifest_data(m, chunk + at, MIN_OF((size_t)100003, MANIFEST_CHUNK - at), NULL), 0);
        assert_int_equal(manifest_zeros(m, 70000, NULL), 0);
        assert_int_equal(manifest_data(m, chunk, 5, NULL), 0);
        assert_int_equal(manifest_zeros(m, MANIFEST_CHUNK - 70005 + MANIFEST_CHUNK, NULL), 0);
        assert_int_equal(manifest_data(m, chunk, 1000, NULL), 0);
        assert_int_equal(finish(m), 1);

        memcpy(mixed + 70000, chunk, 5);
        XXH128_canonicalFromHash(&canonical[0], XXH3_128bits(chunk, MANIFEST_CHUNK));
        XXH128_canonicalFromHash(&canonical[1], XXH3_128bits(mixed, MANIFEST_CHUNK));
        XXH128_canonicalFromHash(&canonical[2], XXH3_128bits(chunk, 1000));
        for (size_t i = 0; i < 3; i++) {
                for (size_t k = 0; k < 16; k++)
                        n += (size_t)snprintf(want + n, sizeof(want) - n, "%02x", canonical[i].digest[k]);
                if (i == 1)
                        want[n++] = '-';
        }
        assert_int_equal(record_get(store, RECORD_MANIFEST, IMAGE "-0", &text, NULL, NULL), 0);
        assert_int_equal(json_parse(text, "part", &doc, NULL), 0);
        assert_string_equal(json_get_str(doc, "chunks", ""), want);
}

static void a_changed_byte_is_found(void **state)
{
        _cleanup_(freep) uint8_t *now = calloc(1, MANIFEST_CHUNK);
        struct manifest *m = begin();

        manifest_data(m, chunk, MANIFEST_CHUNK, NULL);
        manifest_zeros(m, MANIFEST_CHUNK, NULL);
        manifest_data(m, chunk, 1000, NULL);
        for (size_t flipped = 0; flipped < 4; flipped++) { /* 3: none */
                static const size_t sizes[] = {MANIFEST_CHUNK, MANIFEST_CHUNK, 1000};
                struct manifest *r = NULL;

                if (flipped == 0)
                        assert_int_equal(finish(take(m)), 1);
                assert_int_equal(manifest_open(store, IMAGE, 1, &r, NULL), 0);
                for (size_t i = 0; i < 3; i++) {
                        if (i == 1)
                                memset(now, 0, MANIFEST_CHUNK);
                        else
                                memcpy(now, chunk, sizes[i]);
                        if (i == flipped)
                                now[sizes[i] - 1] ^= 0x40;
                        assert_int_equal(manifest_check(r, now, sizes[i], NULL), i != flipped);
                }
                manifest_free(r);
        }
}

static void what_cannot_be_read_is_damage(void **state)
{
        struct manifest *m = begin(), *r = NULL;

        manifest_data(m, chunk, MANIFEST_CHUNK, NULL);
        manifest_zeros(m, 1000, NULL);
        finish(m);
        manifest_open(store, IMAGE, 1, &r, NULL);
        assert_int_equal(manifest_check(r, NULL, MANIFEST_CHUNK, NULL), 0);
        assert_int_equal(manifest_check(r, NULL, 1000, NULL), 0);
        manifest_free(r);
}

static void many_parts_and_their_end(void **state)
{
        struct manifest *m = begin(), *r = NULL;
        struct err err = {0};

        manifest_zeros(m, 2 * PART_BYTES, NULL);
        manifest_data(m, chunk, 512, NULL);
        assert_int_equal(finish(m), 3);
        assert_int_equal(manifest_open(store, IMAGE, 3, &r, NULL), 0);
        for (unsigned i = 0; i < 2 * MANIFEST_PART; i++)
                assert_int_equal(manifest_check(r, "\0\0\0", 4, NULL), 1);
        assert_int_equal(manifest_check(r, chunk, 512, NULL), 1);
        assert_int_equal(manifest_check(r, chunk, 512, &err), -EIO); /* there is no further chunk */
        manifest_free(r);

        assert_int_equal(manifest_remove(store, IMAGE, NULL), 0);
        for (unsigned i = 0; i < 3; i++) {
                _cleanup_(freep) char *id = str_printf(IMAGE "-%u", i), *text = NULL;

                assert_int_equal(record_get(store, RECORD_MANIFEST, id, &text, NULL, NULL), -ENOENT);
        }
        assert_int_equal(manifest_open(store, IMAGE, 3, &r, NULL), 0);
        assert_int_equal(manifest_check(r, chunk, 512, &err), -EIO);
        assert_non_null(strstr(err_text(&err), "is lost"));
        manifest_free(r);
}

static void restart_takes_back_what_was_written(void **state)
{
        struct manifest *m = begin(), *r = NULL;

        manifest_zeros(m, PART_BYTES + 3, NULL); /* the first part is on the store now */
        assert_int_equal(manifest_restart(m, NULL), 0);
        manifest_data(m, chunk, 512, NULL);
        assert_int_equal(finish(m), 1);
        manifest_open(store, IMAGE, 1, &r, NULL);
        assert_int_equal(manifest_check(r, chunk, 512, NULL), 1);
        manifest_free(r);
}

static void a_late_upload_does_not_change_the_next_ones(void **state)
{
        struct manifest *late = begin(), *next = begin(), *r = NULL;
        unsigned parts = 7;

        manifest_zeros(late, 512, NULL);
        manifest_data(next, chunk, 512, NULL);
        assert_int_equal(finish(next), 1);
        assert_int_equal(manifest_finish(late, &parts, NULL), -ESTALE);
        assert_int_equal(parts, 7);
        manifest_free(late);
        manifest_open(store, IMAGE, 1, &r, NULL);
        assert_int_equal(manifest_check(r, chunk, 512, NULL), 1);
        manifest_free(r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(hashes_are_those_of_the_chunks, setup, teardown),
            cmocka_unit_test_setup_teardown(a_changed_byte_is_found, setup, teardown),
            cmocka_unit_test_setup_teardown(what_cannot_be_read_is_damage, setup, teardown),
            cmocka_unit_test_setup_teardown(many_parts_and_their_end, setup, teardown),
            cmocka_unit_test_setup_teardown(restart_takes_back_what_was_written, setup, teardown),
            cmocka_unit_test_setup_teardown(a_late_upload_does_not_change_the_next_ones, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
