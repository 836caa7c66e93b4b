/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/store/record-cache.h"
#include "tests/store/probe-fs.h"

/*
 * Lists of records and leases as files, and a directory's gate, links and locks. Faults come from
 * tests/store/probe-fs.c.
 */
static struct err err;

struct seen {
        unsigned n;
        int answer; /* of the second */
        char text[64];
        uint64_t version;
};

static int on_record(void *arg, const char *id, uint64_t version, const char *text)
{
        struct seen *s = arg;

        snprintf(s->text, sizeof(s->text), "%s=%s", id, text);
        s->version = version;
        return ++s->n == 2 ? s->answer : 0;
}

static int on_lease(void *arg, const char *instance, const struct lease *lease)
{
        struct seen *s = arg;

        return ++s->n == 2 ? s->answer : 0;
}

static void put(const char *id, uint64_t expected, const char *text)
{
        assert_int_equal(record_put(probe.store, RECORD_HOST, id, expected, text, NULL, &err), 0);
}

static int list(struct seen *s)
{
        return record_list(probe.store, RECORD_HOST, on_record, s, &err);
}

static void forget(void)
{
        record_cache_free(probe.store->cache);
        probe.store->cache = record_cache_new(1 << 20);
}

static void one_is_changed(void)
{
        probe.op = NULL;
        put("ab", 1, "two");
}

static void one_is_deleted(void)
{
        probe.op = NULL;
        put("ab", 2, NULL);
}

static void a_list_hands_out_what_is_newest_at_its_end(void **state)
{
        struct seen s = {};

        put("ab", 0, "one");
        forget();
        probe_fail("read", 0); /* another writes between the listing and the read */
        probe.before = one_is_changed;
        assert_int_equal(list(&s), 0);
        assert_true(s.n == 1 && s.version == 2);
        assert_string_equal(s.text, "ab=two");
        forget();
        probe_fail("read", 0);
        probe.before = one_is_deleted;
        s = (struct seen){};
        assert_int_equal(list(&s), 0);
        assert_int_equal(s.n, 0);
        assert_int_equal(list(&s), 0);
        assert_int_equal(s.n, 0);
        forget();
        assert_int_equal(list(&s), 0);
        assert_int_equal(s.n, 0);
        probe_clear();
        assert_int_equal(list(&s), 0);
        assert_false(probe_logged("read")); /* a deletion is kept in memory, too */
}

static void a_list_ends_with_its_first_error_or_answer(void **state)
{
        struct seen s = {.answer = 7};

        put("ab", 0, "one");
        put("ac", 0, "one");
        put("xy", 0, "one");
        assert_int_equal(list(&s), 7); /* from memory */
        assert_int_equal(s.n, 2);
        forget();
        s.n = 0;
        assert_int_equal(list(&s), 7);
        assert_int_equal(s.n, 2);
        for (unsigned i = 0; i < 3; i++) {
                forget();
                s = (struct seen){};
                probe_fail("list", -EIO);
                probe.skip = i;
                assert_int_equal(list(&s), -EIO);
                assert_int_equal(s.n, 0);
        }
        forget();
        probe_fail("read", -EIO);
        assert_int_equal(list(&s), -EIO);
        forget();
        assert_int_equal(probe_shell("echo text >records/host/ab/ab.v2"), 0);
        assert_int_equal(list(&s), -EIO);
        assert_non_null(strstr(err.text, "not a record's file"));
        assert_int_equal(
            probe_shell("rm records/host/ab/ab.v2 && touch records/host/none records/host/ab/ab"), 0);
        forget();
        s = (struct seen){};
        assert_int_equal(list(&s), 0); /* names that are no record's */
        assert_int_equal(s.n, 3);
}

static void a_list_of_leases_ends_with_its_answer(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        struct seen s = {.answer = 7};

        assert_int_equal(lease_create(probe.store, "ab", &disk, 1, &err), 0);
        assert_int_equal(lease_create(probe.store, "ab2", &disk, 1, &err), 0);
        assert_int_equal(lease_create(probe.store, "xy", &disk, 1, &err), 0);
        assert_int_equal(probe_shell("mkdir instances/ab/other instances/ab/ab.e01.h1"), 0);
        assert_int_equal(lease_list(probe.store, on_lease, &s, &err), 7);
        assert_int_equal(s.n, 2);
        s = (struct seen){};
        assert_int_equal(lease_list(probe.store, on_lease, &s, &err), 0);
        assert_int_equal(s.n, 3);
}

static void a_gate_is_the_name(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        const struct lease nobody = {}, other = {1, 1};
        char *path = NULL;
        struct start start;

        start_init(&start, "vm", 0, NULL, NULL, 0);
        assert_int_equal(lease_create(probe.store, "vm", &disk, 1, &err), 0);
        assert_int_equal(lease_gate(probe.store, "vm", &nobody, &start, &disk, 1, &err), 0);
        assert_int_equal(lease_may_write(probe.store, "vm", &nobody, &start, &disk, 1, &err), 0);
        assert_int_equal(lease_gate(probe.store, "vm", &other, &start, &disk, 1, &err), -EACCES);
        assert_int_equal(lease_may_write(probe.store, "vm", &other, &start, &disk, 1, &err), -EACCES);
        probe_fail("stat", -EIO); /* which is no refusal */
        assert_int_equal(lease_gate(probe.store, "vm", &nobody, &start, &disk, 1, &err), -EIO);
        probe_fail("mkdir", -EIO); /* the link's shard */
        assert_int_equal(lease_fence(probe.store, "vm", &nobody, &start, &disk, 1, &err), -EIO);
        probe_fail("mkdir", -EIO);
        assert_int_equal(lease_grant(probe.store, "vm", &nobody, &start, &disk, 1, &err), -EIO);
        probe_fail("mkdir", -EIO);
        assert_int_equal(lease_lock_path(probe.store, "vm", &path, &err), -EIO);
        assert_null(path);
        assert_int_equal(store_selftest(probe.store, &err), 1);
        assert_int_equal(probe_names("tmp"), 0);
        probe_fail("put-durable", -ENOSPC);
        assert_int_equal(store_selftest(probe.store, &err), -ENOSPC);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, probe_begin, probe_end)
        const struct CMUnitTest tests[] = {
            test(a_list_hands_out_what_is_newest_at_its_end),
            test(a_list_ends_with_its_first_error_or_answer),
            test(a_list_of_leases_ends_with_its_answer),
            test(a_gate_is_the_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
