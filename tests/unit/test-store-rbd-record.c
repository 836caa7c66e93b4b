/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "tests/unit/rados-memory.h"

/* Records and heartbeats on RBD: compare and swap, answers that are lost, lists by pages. */
#define HOSTS "/record.host.0" /* the one object of hosts' records */

static int put(struct store *s, uint64_t expected, const char *text, uint64_t *ret)
{
        struct err err = {0};

        return record_put(s, RECORD_HOST, "a", expected, text, ret, &err);
}

static int get(struct store *s, const char *want, uint64_t *ret)
{
        _cleanup_(freep) char *text = NULL;
        struct err err = {0};
        int r = record_get(s, RECORD_HOST, "a", &text, ret, &err);

        if (r == 0)
                assert_string_equal(text, want);
        return r;
}

static void a_write_compares_the_version(void **state)
{
        uint64_t v = 0;

        assert_int_equal(get(*state, NULL, &v), -ENOENT);
        assert_int_equal(put(*state, 1, "{}", &v), -ESTALE); /* no object at all */
        assert_int_equal(put(*state, 0, "one", &v), 0);
        assert_int_equal(v, 1);
        assert_string_equal(memory_get(HOSTS, "v:a"), "0000000000000001+");
        assert_non_null(memory_get(HOSTS, "n:a:1"));
        assert_int_equal(put(*state, 0, "two", &v), -ESTALE);
        assert_int_equal(put(*state, 2, "two", &v), -ESTALE);
        assert_int_equal(get(*state, "one", &v), 0);
        assert_int_equal(v, 1);
        assert_int_equal(put(*state, 1, "two", &v), 0);
        assert_int_equal(v, 2);
        assert_int_equal(put(*state, 1, "three", &v), -ESTALE);
        assert_int_equal(get(*state, "two", &v), 0);
        assert_int_equal(v, 2);
}

static void a_deleted_record_keeps_its_version(void **state)
{
        uint64_t v = 0;

        assert_int_equal(put(*state, 0, NULL, &v), -ENOENT);
        assert_int_equal(put(*state, 0, "one", &v), 0);
        assert_int_equal(put(*state, 0, NULL, &v), -ESTALE);
        assert_int_equal(put(*state, 1, NULL, &v), 0);
        assert_int_equal(v, 2);
        assert_string_equal(memory_get(HOSTS, "v:a"), "0000000000000002-");
        assert_null(memory_get(HOSTS, "t:a"));
        assert_int_equal(get(*state, NULL, &v), -ENOENT);
        assert_int_equal(put(*state, 2, "late", &v), -ESTALE);
        assert_int_equal(put(*state, 0, NULL, &v), -ENOENT);
        assert_int_equal(put(*state, 0, "three", &v), 0);
        assert_int_equal(v, 3);
        assert_int_equal(get(*state, "three", &v), 0);
}

/* The answer of a write is lost: what was written is found by its nonce, and by that alone. */
static void a_lost_answer_is_found_out(void **state)
{
        uint64_t v = 0;

        memory_fail("operate", "record.", ETIMEDOUT, 0); /* done */
        assert_int_equal(put(*state, 0, "one", &v), 0);
        assert_int_equal(v, 1);
        memory_fail("operate", "record.", ECANCELED, 0); /* sent twice by Ceph, and the second one is told */
        assert_int_equal(put(*state, 1, "two", &v), 0);
        assert_int_equal(v, 2);
        memory_fail("operate", "record.", -ETIMEDOUT, 0); /* not done, and it may be yet */
        assert_int_equal(put(*state, 2, "three", &v), -ETIMEDOUT);
        assert_int_equal(get(*state, "two", &v), 0);
        memory_fail("operate", "record.", -ENOSPC, 0);
        assert_int_equal(put(*state, 2, "three", &v), -ENOSPC);
        assert_int_equal(put(*state, 2, NULL, &v), 0);
        memory_fail("operate", "record.", ETIMEDOUT, 1); /* on top of the deleted one */
        assert_int_equal(put(*state, 0, "four", &v), 0);
        assert_int_equal(v, 4);
}

static int no_answers(const char *call, const char *object)
{
        return strncmp(object, "record.", 7) == 0 ? streq(call, "operate") ? ECANCELED : -EIO : 0;
}

static int others(const char *call, const char *object)
{
        memory.hook = NULL;
        if (streq(call, "operate")) {
                memory_set(HOSTS, "v:a", "0000000000000005+");
                memory_set(HOSTS, "n:a:5", "another!");
                return -ETIMEDOUT;
        }
        return 0;
}

static void who_cannot_look_does_not_know(void **state)
{
        uint64_t v = 0;

        assert_int_equal(put(*state, 0, "one", &v), 0);
        memory.hook = no_answers;
        assert_int_equal(put(*state, 1, "two", &v), -ETIMEDOUT);
        assert_int_equal(put(*state, 0, NULL, &v), -ETIMEDOUT);
        memory.hook = NULL;
        assert_int_equal(put(*state, 2, "three", &v), 0);
        memory_fail("read", "record.", -EIO, 0);
        assert_int_equal(get(*state, NULL, &v), -EIO);
}

static int overtake(const char *call, const char *object)
{
        if (streq(call, "operate"))
                return others(call, object);
        return 0;
}

static void anothers_write_is_not_mine(void **state)
{
        uint64_t v = 0;

        assert_int_equal(put(*state, 0, "one", &v), 0);
        memory.hook = overtake;
        assert_int_equal(put(*state, 1, "two", &v), -ETIMEDOUT);
}

static void what_is_no_record_is_said_to_be_none(void **state)
{
        uint64_t v = 0;

        memory_set(HOSTS, "v:a", "0000000000000002+");
        assert_int_equal(get(*state, NULL, &v), -EIO); /* no text */
        memory_set(HOSTS, "t:a", "text");
        assert_int_equal(get(*state, "text", &v), 0);
        assert_int_equal(v, 2);
        memory_set(HOSTS, "v:a", "0000000000000012+");
        assert_int_equal(get(*state, "text", &v), 0);
        assert_int_equal(v, 18); /* hexadecimal */
        memory_set(HOSTS, "v:a", "0000000000000002?");
        assert_int_equal(get(*state, NULL, &v), -EIO);
        memory_set(HOSTS, "v:a", "000000000000002+");
        assert_int_equal(get(*state, NULL, &v), -EIO);
        memory_set(HOSTS, "v:a", "000000000000000x+");
        assert_int_equal(get(*state, NULL, &v), -EIO);
}

static void sixteen_writes_later_a_lost_one_is_known(void **state)
{
        uint64_t v = 0;
        char key[8];

        for (unsigned i = 0; i < 17; i++) {
                assert_int_equal(put(*state, i, "text", &v), 0);
                snprintf(key, sizeof(key), "n:a:%x", (i + 1) % 16);
                assert_non_null(memory_get(HOSTS, key));
        }
        assert_null(memory_get(HOSTS, "n:a:10"));
}

static void accounts_lie_where_hosts_cannot_read(void **state)
{
        struct err err = {0};
        bool found = false;
        char oid[64];
        uint64_t v;

        assert_int_equal(record_put(*state, RECORD_ACCOUNT, "a", 0, "{}", &v, &err), 0);
        for (unsigned i = 0; i < 64; i++) {
                snprintf(oid, sizeof(oid), "accounts/record.%s.%u", record_kind_name(RECORD_ACCOUNT), i);
                found = found || memory_get(oid, "v:a");
        }
        assert_true(found);
}

struct seen {
        unsigned n, ids[100];
        int r;
};

static int see(void *arg, const char *id, uint64_t version, const char *text)
{
        struct seen *s = arg;

        s->n++;
        assert_int_equal(strlen(text), 4);
        assert_memory_equal(text + 1, id + 1, 3);
        s->ids[atoi(id + 1)]++;
        return s->r;
}

static int reads;
static int count(const char *call, const char *object)
{
        reads += streq(call, "read");
        return 0;
}

static void a_list_gives_each_record_once(void **state)
{
        struct seen seen = {0};
        struct err err = {0};
        char id[8], text[8];
        uint64_t v;

        assert_int_equal(record_list(*state, RECORD_HOST, see, &seen, &err), 0);
        for (unsigned i = 0; i < 70; i++) { /* more than one reading of texts */
                snprintf(id, sizeof(id), "a%03u", i);
                snprintf(text, sizeof(text), "t%03u", i);
                assert_int_equal(record_put(*state, RECORD_HOST, id, 0, text, &v, &err), 0);
        }
        assert_int_equal(record_put(*state, RECORD_HOST, "a003", 1, NULL, &v, &err), 0);
        memory.hook = count;
        for (unsigned turn = 0; turn < 3; turn++) {
                seen = (struct seen){0};
                memory.page = turn == 2 ? 7 : 0;
                reads = 0;
                assert_int_equal(record_list(*state, RECORD_HOST, see, &seen, &err), 0);
                assert_int_equal(seen.n, 69);
                for (unsigned i = 0; i < 70; i++)
                        assert_int_equal(seen.ids[i], i == 3 ? 0 : 1);
                if (turn > 0) /* the texts are known: only versions are asked for */
                        assert_int_equal(reads, turn == 1 ? 1 : 10);
        }
        assert_int_equal(record_put(*state, RECORD_HOST, "a005", 1, "u005", &v, &err), 0);
        memory.page = 0;
        reads = 0;
        assert_int_equal(record_list(*state, RECORD_HOST, see, &seen, &err), 0);
        assert_in_range(reads, 1, 2);
        seen = (struct seen){.r = 5};
        assert_int_equal(record_list(*state, RECORD_HOST, see, &seen, &err), 5);
        assert_int_equal(seen.n, 1);
        memory_set(HOSTS, "v:a005", "nonsense");
        seen = (struct seen){0};
        assert_int_equal(record_list(*state, RECORD_HOST, see, &seen, &err), -EIO);
        memory_fail("read", "record.", -EIO, 0);
        assert_int_equal(record_list(*state, RECORD_HOST, see, &seen, &err), -EIO);
}

static void a_list_of_many_objects_misses_none(void **state)
{
        struct seen seen = {0};
        struct err err = {0};
        char id[8], text[8];
        uint64_t v;

        for (unsigned i = 0; i < 100; i++) {
                snprintf(id, sizeof(id), "a%03u", i);
                snprintf(text, sizeof(text), "t%03u", i);
                assert_int_equal(record_put(*state, RECORD_INSTANCE, id, 0, text, &v, &err), 0);
        }
        assert_int_equal(record_list(*state, RECORD_INSTANCE, see, &seen, &err), 0);
        assert_int_equal(seen.n, 100);
        memory_fail("read", "record.", -EIO, 40);
        assert_int_equal(record_list(*state, RECORD_INSTANCE, see, &seen, &err), -EIO);
}

static void a_heartbeat_is_eight_bytes(void **state)
{
        struct err err = {0};
        uint64_t n = 0;

        assert_int_equal(beat_read(*state, 3, &n, &err), -ENOENT);
        assert_int_equal(beat_write(*state, 3, 0x8182838485868788, &err), 0);
        assert_int_equal(beat_read(*state, 3, &n, &err), 0);
        assert_true(n == 0x8182838485868788);
        assert_int_equal(beat_read(*state, 4, &n, &err), -ENOENT);
        memory_fail("write", "beat.3", -ETIMEDOUT, 0);
        assert_int_equal(beat_write(*state, 3, 1, &err), -ETIMEDOUT);
        memory.read_max = 7; /* cut short */
        assert_int_equal(beat_read(*state, 3, &n, &err), -EIO);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, memory_setup, memory_teardown)
        const struct CMUnitTest tests[] = {
            test(a_write_compares_the_version),
            test(a_deleted_record_keeps_its_version),
            test(a_lost_answer_is_found_out),
            test(who_cannot_look_does_not_know),
            test(anothers_write_is_not_mine),
            test(what_is_no_record_is_said_to_be_none),
            test(sixteen_writes_later_a_lost_one_is_known),
            test(accounts_lie_where_hosts_cannot_read),
            test(a_list_gives_each_record_once),
            test(a_list_of_many_objects_misses_none),
            test(a_heartbeat_is_eight_bytes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
