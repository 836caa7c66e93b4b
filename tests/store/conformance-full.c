/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <stdio.h>

static struct store *store;

/* A store of some tens of MiB is filled with one image; everything else then says so, and works again after.
 */
static void full_store_says_so(void **state)
{
        char id[UUID_LEN + 1], record[UUID_LEN + 1], *text = NULL;
        char *big = malloc(200001);
        uint8_t *block = malloc(MIB);
        struct volume *v = NULL;
        uint64_t version = 0, total = 0, left = 0;
        struct lease l = {};
        struct err err;
        int r = 0;

        uuid_random(id);
        uuid_random(record);
        memset(block, 0xa5, MIB);
        memset(big, 'y', 200000);
        big[200000] = '\0';
        assert_ok(record_put(store, RECORD_IMAGE, record, 0, "{\"kept\":1}", &version, &err));
        assert_ok(store_space(store, &total, &left, &err));
        assert_true(total > 0 && left <= total);
        assert_ok(volume_create(store, id, 1024 * MIB, &v, &err));
        for (uint64_t i = 0; i < 1024 && r >= 0; i++)
                r = volume_write(v, block, MIB, i * MIB, &err);
        if (r >= 0)
                r = volume_seal(v, &err);
        assert_int_equal(r, -ENOSPC);
        for (uint64_t at = 0; at < 2 * MIB; at += 4096) /* the last corners too */
                if (volume_write(v, block, 4096, 512 * MIB + at, &err) < 0)
                        break;
        assert_fails(-ENOSPC, record_put(store, RECORD_IMAGE, record, version, big, NULL, &err));
        uuid_random(id);
        assert_fails(-ENOSPC, lease_create(store, id, &plain_disk, 1, &err));
        assert_fails(-ENOENT, lease_find(store, id, &l, &err));
        assert_ok(record_get(store, RECORD_IMAGE, record, &text, &version, &err));
        assert_string_equal(text, "{\"kept\":1}");
        /* the upload is given up: its room comes back, and so does the service */
        volume_close(v);
        assert_ok(record_put(store, RECORD_IMAGE, record, version, big, &version, &err));
        disks_make(store, id, &plain_disk, 1);
        free(text);
        free(block);
        free(big);
}

static int begin(void **state)
{
        struct err err = {};

        if (store_connect(&store, &err) < 0 || store_prepare(store, &err) < 0) {
                fprintf(stderr, "%s\n", err_text(&err));
                return -1;
        }
        return 0;
}

static int end(void **state)
{
        store = store_close(store);
        return 0;
}

int run_full(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(full_store_says_so)};

        return cmocka_run_group_tests_name("full store", tests, begin, end);
}

static void squashed_root_is_found_out(void **state)
{
        struct store *s = NULL;
        struct err err = {};
        int r;

        assert_ok(store_connect(&s, &err));
        r = store_selftest(s, &err);
        assert_int_equal(r, 0);
        assert_non_null(strstr(err.text, "no_root_squash"));
        store_close(s);
}

int run_squash(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(squashed_root_is_found_out)};

        return cmocka_run_group_tests_name("squashed export", tests, NULL, NULL);
}
