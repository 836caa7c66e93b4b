/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>

#include "imaged/token.h"

static const uint8_t key[ACCOUNT_KEY_LEN] = {1, 2, 3}, other_key[ACCOUNT_KEY_LEN] = {1, 2, 4};

static struct token token_of(const char *name)
{
        struct token t = {.account = {.serial = 7}, .issued = 1000, .expires = 4600};

        snprintf(t.account.id, sizeof(t.account.id), "0b7a3246-9fa2-4d9e-9888-6e5c8c95f710");
        snprintf(t.account.name, sizeof(t.account.name), "%s", name);
        return t;
}

static void token_says_what_was_put_in(void **state)
{
        static const char *const names[] = {
            "a", "alice", "a23456789012345678901234567890123456789012345678901234567890123"};
        struct err err = {0};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                struct token t = token_of(names[i]), back;
                char text[TOKEN_TEXT_MAX + 1];

                token_make(key, &t, text);
                assert_true(strlen(text) <= TOKEN_TEXT_MAX);
                assert_int_equal(token_read(key, text, 2000, &back, &err), 0);
                assert_string_equal(back.account.name, names[i]);
                assert_string_equal(back.account.id, t.account.id);
                assert_int_equal(back.account.serial, 7);
                assert_int_equal(back.issued, 1000);
                assert_int_equal(back.expires, 4600);
        }
}

static void token_expires(void **state)
{
        struct token t = token_of("alice"), back;
        char text[TOKEN_TEXT_MAX + 1];
        struct err err = {0};

        token_make(key, &t, text);
        assert_int_equal(token_read(key, text, 4599, &back, &err), 0);
        assert_int_equal(token_read(key, text, 4600, &back, &err), -EPERM);
        assert_non_null(strstr(err_text(&err), "expired"));
}

/* Every character changed, every length, another key: nothing of it opens. */
static void token_that_was_touched_opens_nothing(void **state)
{
        struct token t = token_of("alice"), back;
        char text[TOKEN_TEXT_MAX + 1], bad[TOKEN_TEXT_MAX + 2];
        struct err err = {0};
        size_t n;

        token_make(key, &t, text);
        n = strlen(text);
        for (size_t i = 0; i < n; i++) {
                strcpy(bad, text);
                bad[i] = bad[i] == 'A' ? 'B' : 'A';
                assert_int_equal(token_read(key, bad, 2000, &back, &err), -EPERM);
                bad[i] = '\0';
                assert_int_equal(token_read(key, bad, 2000, &back, &err), -EPERM);
        }
        snprintf(bad, sizeof(bad), "%sA", text);
        assert_int_equal(token_read(key, bad, 2000, &back, &err), -EPERM);
        assert_int_equal(token_read(other_key, text, 2000, &back, &err), -EPERM);
        assert_int_equal(token_read(key, "0123456789abcdef-operator", 2000, &back, &err), -EPERM);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(token_says_what_was_put_in),
            cmocka_unit_test(token_expires),
            cmocka_unit_test(token_that_was_touched_opens_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
