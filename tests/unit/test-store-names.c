/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "imaged/store/engine.h"
#include "imaged/store/record-cache.h"

static void lease_name_round_trip(void **state)
{
        const struct lease leases[] = {{0, 0}, {1, 1}, {42, 65535}, {UINT64_MAX, UINT32_MAX}};
        char longest[STORE_ID_MAX + 1];

        memset(longest, 'a', STORE_ID_MAX);
        longest[STORE_ID_MAX] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(leases); i++) {
                char name[LEASE_NAME_MAX + 1], id[STORE_ID_MAX + 1];
                struct lease back;

                lease_name_format(longest, &leases[i], name);
                assert_int_equal(lease_name_parse(name, id, &back), 0);
                assert_string_equal(id, longest);
                assert_true(back.epoch == leases[i].epoch && back.host == leases[i].host);
        }
}

static void a_name_has_one_spelling(void **state)
{
        static const char *const bad[] = {"",
                                          "i",
                                          "i.e1",
                                          "i.e1.h",
                                          "i.e.h1",
                                          ".e1.h1",
                                          "i.e01.h1",
                                          "i.e1.h01",
                                          "i.e+1.h1",
                                          "i.e-1.h1",
                                          "i.e1.h1x",
                                          "i.e1.h1.",
                                          "i.e 1.h1",
                                          "i.E1.h1",
                                          "a.b.e1.h1",
                                          "i.e1.h1.h1",
                                          "i.e18446744073709551616.h1",
                                          "i.e1.h4294967296"};
        char id[STORE_ID_MAX + 1] = "untouched";
        struct lease l = {7, 7};

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (lease_name_parse(bad[i], id, &l) != -EINVAL)
                        fail_msg("\"%s\" was taken for a lease's name", bad[i]);
        assert_string_equal(id, "untouched");
        assert_true(l.epoch == 7 && l.host == 7);
}

static void record_kinds_have_names(void **state)
{
        for (int k = 0; k < RECORD_KIND_MAX; k++) {
                assert_non_null(record_kind_name(k));
                for (int j = 0; j < k; j++)
                        assert_string_not_equal(record_kind_name(k), record_kind_name(j));
        }
        assert_null(record_kind_name(RECORD_KIND_MAX));
}

static void cache_keeps_the_newest(void **state)
{
        struct record_cache *c = record_cache_new(1 << 20);
        char *text;

        assert_null(record_cache_get(c, RECORD_HOST, "1", 1));
        record_cache_put(c, RECORD_HOST, "1", 5, "five");
        record_cache_put(c, RECORD_HOST, "1", 4, "four");
        record_cache_put(c, RECORD_IMAGE, "1", 9, "image");
        assert_null(record_cache_get(c, RECORD_HOST, "1", 4));
        text = record_cache_get(c, RECORD_HOST, "1", 5);
        assert_string_equal(text, "five");
        free(text);
        record_cache_put(c, RECORD_HOST, "1", 6, "");
        assert_null(record_cache_get(c, RECORD_HOST, "1", 5));
        text = record_cache_get(c, RECORD_HOST, "1", 6);
        assert_string_equal(text, "");
        free(text);
        record_cache_free(c);
}

static void cache_is_bounded(void **state)
{
        struct record_cache *c = record_cache_new(100000);
        char text[1001], id[32];
        unsigned kept = 0;

        memset(text, 'x', 1000);
        text[1000] = '\0';
        for (unsigned i = 0; i < 1000; i++) {
                snprintf(id, sizeof(id), "%u", i);
                record_cache_put(c, RECORD_INSTANCE, id, 1, text);
        }
        for (unsigned i = 0; i < 1000; i++) {
                char *got;

                snprintf(id, sizeof(id), "%u", i);
                got = record_cache_get(c, RECORD_INSTANCE, id, 1);
                kept += got != NULL;
                free(got);
        }
        assert_in_range(kept, 50, 100);
        record_cache_free(c);
}

static void unknown_urls_are_refused(void **state)
{
        static const char *const bad[] = {"",
                                          "dir",
                                          "dir:relative",
                                          "ftp://x",
                                          "nfs://",
                                          "nfs://host",
                                          "nfs://host/",
                                          "nfs:///export",
                                          "nfs://host/export?uid=0",
                                          "/tmp"};

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct store *s = NULL;
                struct err err = {};

                assert_int_equal(store_open(bad[i], NULL, &s, &err), -EINVAL);
                assert_null(s);
                assert_true(err.text[0]);
        }
}

/* A mistyped path, or a file system that is not mounted, must not become an empty store. */
static void missing_folder_is_not_made(void **state)
{
        char folder[] = "/tmp/wherry-missing-XXXXXX", url[64];
        struct store *s = NULL;
        struct err err = {};

        assert_non_null(mkdtemp(folder));
        snprintf(url, sizeof(url), "dir:%s/x", folder);
        assert_int_equal(store_open(url, NULL, &s, &err), -ENOENT);
        assert_non_null(strstr(err.text, "mkdir -p"));
        assert_int_equal(rmdir(folder), 0); /* empty */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(lease_name_round_trip),      cmocka_unit_test(a_name_has_one_spelling),
            cmocka_unit_test(record_kinds_have_names),    cmocka_unit_test(cache_keeps_the_newest),
            cmocka_unit_test(cache_is_bounded),           cmocka_unit_test(unknown_urls_are_refused),
            cmocka_unit_test(missing_folder_is_not_made),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
