/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/conf.h"
#include "common/err.h"
#include "common/util.h"

static char folder[] = "/tmp/wherry-test-conf.XXXXXX";

/* A path in the test's folder, in a buffer that the next call but three uses again. */
static const char *in_folder(const char *name)
{
        static char paths[4][300];
        static unsigned turn;
        char *p = paths[turn++ % 4];

        snprintf(p, sizeof(paths[0]), "%s/%s", folder, name);
        return p;
}

static char *url, *user;
static const struct conf_key keys[] = {
    {"store", "url", "dir:/var/lib", "the store", &url},
    {"store", "user", NULL, "its user", &user},
};

static int load(const char *text, struct err *err)
{
        *err = (struct err){0};
        assert_int_equal(file_write(in_folder("conf"), text, strlen(text), 0600, err), 0);
        return conf_load(in_folder("conf"), keys, ARRAY_SIZE(keys), err);
}

static void settings_are_read_with_fallbacks(void **state)
{
        struct err err;

        assert_int_equal(load("# a comment\n[store]\nuser = wherry\n", &err), 0);
        assert_string_equal(url, "dir:/var/lib");
        assert_string_equal(user, "wherry");
        conf_done(keys, ARRAY_SIZE(keys));
        assert_null(url);
        assert_int_equal(load("", &err), 0);
        assert_null(user);
        conf_done(keys, ARRAY_SIZE(keys));
}

static void wrong_settings_are_named_with_file_and_line(void **state)
{
        struct err err;
        char text[700];

        assert_int_equal(load("[store]\nurl = x\nusr = y\n[nothing]\na = b\n", &err), -EINVAL);
        assert_non_null(strstr(err.text, "conf:3"));
        assert_non_null(strstr(err.text, "usr"));
        assert_non_null(strstr(err.text, "url user"));
        assert_null(url);
        assert_int_equal(load("[nothing]\na = b\n", &err), -EINVAL);
        assert_non_null(strstr(err.text, "[store]"));
        assert_int_equal(load("[store]\nurl x\n", &err), -EINVAL);
        assert_non_null(strstr(err.text, "conf:2"));
        assert_int_equal(load("[store]\nurl = x\nurl = y\n", &err), -EINVAL);
        assert_non_null(strstr(err.text, "twice"));
        /* An indented line is no silent continuation of the line above. */
        assert_int_equal(load("[store]\nurl = x\n  user = y\n", &err), -EINVAL);
        assert_int_equal(conf_load(in_folder("no-conf"), keys, ARRAY_SIZE(keys), &err), -ENOENT);
        assert_non_null(strstr(err.text, "no-conf"));
        /* Longer than inih's own line: either whole or an error, never a part. */
        memset(text, 'u', sizeof(text));
        memcpy(text, "[store]\nurl = ", 14);
        text[sizeof(text) - 1] = '\0';
        if (load(text, &err) == 0)
                assert_int_equal(strlen(url), sizeof(text) - 1 - 14);
        conf_done(keys, ARRAY_SIZE(keys));
}

static int make_folder(void **state)
{
        return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
        char command[64];

        snprintf(command, sizeof(command), "rm -rf %s", folder);
        return system(command);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(settings_are_read_with_fallbacks),
            cmocka_unit_test(wrong_settings_are_named_with_file_and_line),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
