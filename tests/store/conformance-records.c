/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <stdio.h>

static void expect(struct store *s, enum record_kind kind, const char *id, const char *want,
                   uint64_t version)
{
        _cleanup_(freep) char *text = NULL;
        uint64_t v = 0;
        struct err err = {};

        assert_ok(record_get(s, kind, id, &text, &v, &err));
        assert_string_equal(text, want);
        assert_int_equal(v, version);
}

static void put_then_get(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1], *text = NULL;
        uint64_t v1 = 0, v2 = 0;
        struct err err;

        uuid_random(id);
        assert_fails(-ENOENT, record_get(s->store, RECORD_IMAGE, id, &text, &v1, &err));
        assert_ok(record_put(s->store, RECORD_IMAGE, id, 0, "{\"a\":1}", &v1, &err));
        assert_true(v1 > 0);
        expect(s->second, RECORD_IMAGE, id, "{\"a\":1}", v1);
        assert_ok(record_put(s->second, RECORD_IMAGE, id, v1, "{\"a\":2}", &v2, &err));
        assert_true(v2 > v1);
        expect(s->store, RECORD_IMAGE, id, "{\"a\":2}", v2);
        /* the same id of another kind is another record */
        assert_fails(-ENOENT, record_get(s->store, RECORD_HOST, id, &text, &v1, &err));
}

static void stale_compare_loses(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1];
        uint64_t v1 = 0, v2 = 0;
        struct err err;

        uuid_random(id);
        assert_fails(-ESTALE, record_put(s->store, RECORD_HOST, id, 7, "{}", NULL, &err));
        assert_ok(record_put(s->store, RECORD_HOST, id, 0, "{}", &v1, &err));
        assert_fails(-ESTALE, record_put(s->second, RECORD_HOST, id, 0, "{\"late\":1}", NULL, &err));
        assert_ok(record_put(s->store, RECORD_HOST, id, v1, "{\"b\":1}", &v2, &err));
        assert_fails(-ESTALE, record_put(s->second, RECORD_HOST, id, v1, "{\"late\":2}", NULL, &err));
        assert_fails(-ESTALE, record_put(s->second, RECORD_HOST, id, v2 + 1, "{\"early\":1}", NULL, &err));
        assert_fails(-ESTALE, record_put(s->second, RECORD_HOST, id, v1, NULL, NULL, &err));
        expect(s->second, RECORD_HOST, id, "{\"b\":1}", v2);
}

static int count_id(void *arg, const char *id, uint64_t version, const char *text)
{
        return streq(id, arg) ? 1 : 0;
}

static void deleted_is_gone_and_may_come_again(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1], *text = NULL;
        uint64_t v1 = 0, v2 = 0, v3 = 0;
        struct err err;

        uuid_random(id);
        assert_fails(-ENOENT, record_put(s->store, RECORD_NETWORK, id, 0, NULL, NULL, &err));
        assert_ok(record_put(s->store, RECORD_NETWORK, id, 0, "{\"old\":1}", &v1, &err));
        assert_int_equal(record_list(s->second, RECORD_NETWORK, count_id, id, &err), 1);
        assert_ok(record_put(s->store, RECORD_NETWORK, id, v1, NULL, &v2, &err));
        assert_fails(-ENOENT, record_get(s->second, RECORD_NETWORK, id, &text, &v3, &err));
        assert_int_equal(record_list(s->store, RECORD_NETWORK, count_id, id, &err), 0);
        assert_int_equal(record_list(s->second, RECORD_NETWORK, count_id, id, &err), 0);
        assert_fails(-ESTALE, record_put(s->second, RECORD_NETWORK, id, v1, "{\"sleeper\":1}", NULL, &err));
        assert_ok(record_put(s->second, RECORD_NETWORK, id, 0, "{\"new\":1}", &v3, &err));
        assert_true(v3 > v2 && v2 > v1);
        expect(s->store, RECORD_NETWORK, id, "{\"new\":1}", v3);
}

static void bad_arguments_are_refused(void **state)
{
        static const char *const bad[] = {
            "",     ".",
            "..",   "a/b",
            "../x", "a.b",
            "a b",  "\xc3\xa4",
            "a\nb", "12345678901234567890123456789012345678901234567890123456789012345"};
        struct suite *s = suite_of(state);
        char longest[65], *big = malloc(256 * 1024 + 2), *text = NULL;
        uint64_t v;
        struct err err;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_fails(-EINVAL, record_get(s->store, RECORD_IMAGE, bad[i], &text, &v, &err));
                assert_fails(-EINVAL, record_put(s->store, RECORD_IMAGE, bad[i], 0, "{}", NULL, &err));
        }
        assert_fails(-EINVAL, record_get(s->store, RECORD_KIND_MAX, "x", &text, &v, &err));
        memset(longest, 'Z', 64);
        longest[64] = '\0';
        assert_ok(record_put(s->store, RECORD_EVENT, longest, 0, "{}", NULL, &err));
        expect(s->second, RECORD_EVENT, longest, "{}", 1);
        memset(big, 'x', 256 * 1024 + 1);
        big[256 * 1024 + 1] = '\0';
        assert_fails(-EINVAL, record_put(s->store, RECORD_EVENT, "big", 0, big, NULL, &err));
        big[256 * 1024] = '\0';
        assert_ok(record_put(s->store, RECORD_EVENT, "big", 0, big, NULL, &err));
        expect(s->second, RECORD_EVENT, "big", big, 1);
        free(big);
}

static void many_versions_end_in_the_last(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1], text[32];
        uint64_t v = 0;
        struct err err;

        uuid_random(id);
        for (int i = 0; i < 60; i++) {
                uint64_t before = v;

                snprintf(text, sizeof(text), "{\"n\":%d}", i);
                assert_ok(record_put(i % 2 ? s->store : s->second, RECORD_HOST, id, v, text, &v, &err));
                assert_true(v > before);
        }
        expect(s->store, RECORD_HOST, id, text, v);
}

struct seen {
        unsigned n[300];
        unsigned changed, others;
};

static int see(void *arg, const char *id, uint64_t version, const char *text)
{
        struct seen *seen = arg;
        unsigned i;

        if (sscanf(id, "list-%u", &i) != 1 || i >= ARRAY_SIZE(seen->n)) {
                seen->others++;
                return 0;
        }
        seen->n[i]++;
        if (strstr(text, "changed"))
                seen->changed++;
        return 0;
}

static int stop_at_first(void *arg, const char *id, uint64_t version, const char *text)
{
        ++*(int *)arg;
        return 42;
}

static void list_shows_each_once(void **state)
{
        struct suite *s = suite_of(state);
        struct seen seen = {};
        uint64_t version[300];
        char id[32], text[64];
        int calls = 0;
        struct err err;

        for (unsigned i = 0; i < ARRAY_SIZE(seen.n); i++) {
                snprintf(id, sizeof(id), "list-%u", i);
                snprintf(text, sizeof(text), "{\"i\":%u}", i);
                assert_ok(record_put(s->store, RECORD_ACCOUNT, id, 0, text, &version[i], &err));
        }
        assert_ok(record_list(s->second, RECORD_ACCOUNT, see, &seen, &err));
        for (unsigned i = 0; i < ARRAY_SIZE(seen.n); i++)
                assert_int_equal(seen.n[i], 1);
        assert_int_equal(seen.changed + seen.others, 0);
        /* what changed is seen by a second list, the rest comes from memory, what was deleted is not there
         */
        for (unsigned i = 0; i < 10; i++) {
                snprintf(id, sizeof(id), "list-%u", i);
                assert_ok(record_put(s->store, RECORD_ACCOUNT, id, version[i],
                                     i < 5 ? "{\"changed\":1}" : NULL, NULL, &err));
        }
        seen = (struct seen){};
        assert_ok(record_list(s->second, RECORD_ACCOUNT, see, &seen, &err));
        assert_int_equal(seen.changed, 5);
        for (unsigned i = 0; i < ARRAY_SIZE(seen.n); i++)
                assert_int_equal(seen.n[i], i < 5 || i >= 10);
        assert_int_equal(record_list(s->second, RECORD_ACCOUNT, stop_at_first, &calls, &err), 42);
        assert_int_equal(calls, 1);
}

static void heartbeat_is_overwritten_in_place(void **state)
{
        struct suite *s = suite_of(state);
        uint64_t n = 0;
        struct err err;

        assert_fails(-ENOENT, beat_read(s->store, 4711, &n, &err));
        assert_ok(beat_write(s->store, 4711, 1, &err));
        assert_ok(beat_read(s->second, 4711, &n, &err));
        assert_int_equal(n, 1);
        assert_ok(beat_write(s->store, 4711, UINT64_MAX, &err));
        assert_ok(beat_read(s->second, 4711, &n, &err));
        assert_true(n == UINT64_MAX);
        assert_ok(beat_write(s->store, 4711, 3, &err));
        assert_ok(beat_read(s->second, 4711, &n, &err));
        assert_int_equal(n, 3);
        assert_fails(-ENOENT, beat_read(s->second, 4712, &n, &err));
}

const struct engine_test record_tests[] = {
    {ON_ALL, cmocka_unit_test(put_then_get)},
    {ON_ALL, cmocka_unit_test(stale_compare_loses)},
    {ON_ALL, cmocka_unit_test(deleted_is_gone_and_may_come_again)},
    {ON_ALL, cmocka_unit_test(bad_arguments_are_refused)},
    {ON_ALL, cmocka_unit_test(many_versions_end_in_the_last)},
    {ON_ALL, cmocka_unit_test(list_shows_each_once)},
    {ON_ALL, cmocka_unit_test(heartbeat_is_overwritten_in_place)},
};
const size_t n_record_tests = ARRAY_SIZE(record_tests);
