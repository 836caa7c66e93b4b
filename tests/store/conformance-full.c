/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <stdio.h>

static struct store *store;

/*
 * A store of some tens of MiB is filled with one image. What is new is refused then; what is there can still
 * be changed, or nothing could be removed. It works again after, and so does the reserve.
 */
static struct volume *fill_store(void)
{
        uint8_t *block = malloc(MIB);
        struct volume *v = NULL;
        char id[UUID_LEN + 1];
        struct err err;
        int r = 0;

        uuid_random(id);
        memset(block, 0xa5, MIB);
        assert_ok(volume_create(store, id, 1024 * MIB, &v, &err));
        for (uint64_t i = 0; i < 1024 && r >= 0; i++)
                r = volume_write(v, block, MIB, i * MIB, &err);
        if (r >= 0)
                r = volume_seal(v, &err);
        assert_int_equal(r, -ENOSPC);
        for (uint64_t at = 0; at < 2 * MIB; at += 4096) /* the last corners too */
                if (volume_write(v, block, 4096, 512 * MIB + at, &err) < 0)
                        break;
        free(block);
        return v;
}

/* What a failover, or a start, asks of the storage before the guest runs. */
static void take_over(const char *instance, unsigned host)
{
        struct lease from = {}, mine = {};
        struct attach disk = {};
        struct start start;
        struct err err;
        char *lock = NULL;

        assert_ok(lease_find(store, instance, &from, &err));
        start_init(&start, instance, from.epoch + 1, NULL, NULL, 0);
        assert_ok(lease_claim(store, instance, &from, host, false, &mine, &err));
        assert_ok(lease_fence(store, instance, &mine, &start, &plain_disk, 1, &err));
        assert_ok(lease_attach(store, instance, &mine, &start, &plain_disk, 1, &disk, &err));
        assert_ok(lease_lock_path(store, instance, &lock, &err));
        assert_ok(lease_gate(store, instance, &mine, &start, &plain_disk, 1, &err));
        assert_ok(lease_may_write(store, instance, &mine, &start, &plain_disk, 1, &err));
        free(lock);
}

static void full_store_says_so(void **state)
{
        char id[UUID_LEN + 1], record[UUID_LEN + 1], guest[UUID_LEN + 1], *text = NULL,
                                                                          *big = malloc(200001);
        uint64_t version = 0, total = 0, left = 0;
        struct volume *v;
        struct lease l = {};
        struct err err;

        uuid_random(record);
        memset(big, 'y', 200000);
        big[200000] = '\0';
        assert_ok(record_put(store, RECORD_IMAGE, record, 0, "{\"kept\":1}", &version, &err));
        assert_ok(store_space(store, &total, &left, &err));
        assert_true(total > 0 && left <= total);
        assert_int_equal(store_room(store, &err), STORE_ROOM);
        uuid_random(guest);
        disks_make(store, guest, &plain_disk, 1);
        for (unsigned round = 0; round < 2; round++) {
                v = fill_store();
                assert_int_equal(store_room(store, &err), STORE_FULL);
                uuid_random(id);
                assert_fails(-ENOSPC, record_put(store, RECORD_IMAGE, id, 0, big, NULL, &err));
                assert_fails(-ENOSPC, lease_create(store, id, &plain_disk, 1, &err));
                assert_fails(-ENOENT, lease_find(store, id, &l, &err));
                assert_ok(record_get(store, RECORD_IMAGE, record, &text, &version, &err));
                assert_string_equal(text, round == 0 ? "{\"kept\":1}" : big);
                free(text);
                take_over(guest, round + 1);
                assert_ok(record_put(store, RECORD_IMAGE, record, version, big, &version, &err));
                volume_close(v); /* the upload is given up: its room comes back, and so does the reserve */
                assert_ok(store_upkeep(store, &err));
                assert_int_equal(store_room(store, &err), STORE_ROOM);
        }
        assert_ok(record_put(store, RECORD_IMAGE, record, version, NULL, &version, &err));
        disks_make(store, id, &plain_disk, 1);
        free(big);
}

/* Full in another way: of files there can be no more. */
static void no_more_files(void **state)
{
        char id[UUID_LEN + 1], guest[UUID_LEN + 1];
        uint64_t version = 0;
        struct err err = {};
        int r = 0;

        uuid_random(id);
        uuid_random(guest);
        assert_ok(record_put(store, RECORD_INSTANCE, id, 0, "{}", &version, &err));
        disks_make(store, guest, &plain_disk, 1);
        for (int i = 0; i < 10000 && r == 0; i++) {
                char other[UUID_LEN + 1];

                uuid_random(other);
                r = record_put(store, RECORD_IMAGE, other, 0, "{}", NULL, &err);
        }
        assert_int_equal(r, -ENOSPC);
        for (unsigned host = 1; host <= 8 && beat_write(store, host, 1, &err) == 0; host++)
                ;                              /* a record takes two, so one may be left */
        assert_ok(store_prepare(store, &err)); /* imaged and hostd start there */
        take_over(guest, 1);
        assert_ok(record_put(store, RECORD_INSTANCE, id, version, "{\"host\":1}", &version, &err));
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
        const struct CMUnitTest tests[] = {cmocka_unit_test(full_store_says_so),
                                           cmocka_unit_test(no_more_files)};

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
