/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/json.h"
#include "common/util.h"

static char folder[] = "/tmp/wherry-test-common.XXXXXX";

/* A path in the test's folder, in a buffer that the next call but three uses again. */
static const char *in_folder(const char *name)
{
        static char paths[4][300];
        static unsigned turn;
        char *p = paths[turn++ % 4];

        snprintf(p, sizeof(paths[0]), "%s/%s", folder, name);
        return p;
}

/* err */

static void err_set_formats_and_returns_the_code(void **state)
{
        struct err err = {0};

        assert_int_equal(err_set(&err, -ENOENT, "image %s of %d", "a", 7), -ENOENT);
        assert_int_equal(err.code, -ENOENT);
        assert_string_equal(err_text(&err), "image a of 7");
        assert_int_equal(err_set(NULL, -EIO, "dropped"), -EIO);
        assert_int_equal(err_wrap(NULL, -EIO, "dropped"), -EIO);
}

static void err_set_may_quote_its_own_text(void **state)
{
        struct err err = {0};

        err_set(&err, -EIO, "disk full");
        err_set(&err, -ENOSPC, "%s, and more", err.text);
        assert_string_equal(err.text, "disk full, and more");
        err_wrap(&err, -ENOSPC, "\"%s\"", err.text);
        assert_string_equal(err.text, "\"disk full, and more\": disk full, and more");
}

static void err_wrap_puts_context_before(void **state)
{
        struct err err = {0}, bare = {0};

        err_set(&err, -EIO, "read failed");
        assert_int_equal(err_wrap(&err, -EBADMSG, "image %s", "x"), -EBADMSG);
        assert_string_equal(err.text, "image x: read failed");
        assert_int_equal(err.code, -EBADMSG);
        err_wrap(&bare, -ENOENT, "host 3");
        assert_string_equal(bare.text, "host 3: No such file or directory");
}

static void err_texts_are_cut_not_overrun(void **state)
{
        struct err err = {0};
        char longer[2000];

        memset(longer, 'x', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        err_set(&err, -EIO, "%s", longer);
        assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
        err_wrap(&err, -EIO, "%s", longer);
        assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
        assert_string_equal(err_text(NULL), "unknown error");
        err = (struct err){.code = -EACCES};
        assert_string_equal(err_text(&err), "Permission denied");
}

/* util: sizes */

static void sizes_are_parsed_exactly(void **state)
{
        static const struct {
                const char *text;
                int r;
                uint64_t bytes;
        } cases[] = {
            {"0", 0, 0},
            {"4096", 0, 4096},
            {"512M", 0, 512ULL << 20},
            {"512m", 0, 512ULL << 20},
            {"10G", 0, 10ULL << 30},
            {"10GiB", 0, 10ULL << 30},
            {"10GB", 0, 10ULL << 30},
            {"7B", 0, 7},
            {"1.5T", 0, 3ULL << 39},
            {"0.5K", 0, 512},
            {"1.5GiB", 0, 3ULL << 29},
            {"9007199254740993", 0, 9007199254740993ULL}, /* 2^53 + 1: no double holds it */
            {"18446744073709551615", 0, UINT64_MAX},
            {"15E", 0, 15ULL << 60},
            {"16E", -ERANGE, 0},
            {"18446744073709551616", -ERANGE, 0},
            {"16.0E", -ERANGE, 0},
            {"99999999999999999999.5G", -ERANGE, 0},
            {"", -EINVAL, 0},
            {" 5", -EINVAL, 0},
            {"5 ", -EINVAL, 0},
            {"-5", -EINVAL, 0},
            {"+5", -EINVAL, 0},
            {"G", -EINVAL, 0},
            {"5X", -EINVAL, 0},
            {"5GG", -EINVAL, 0},
            {"5Gi", -EINVAL, 0},
            {"1.5", -EINVAL, 0},
            {"1.G", -EINVAL, 0},
            {"1.5.5G", -EINVAL, 0},
            {"0x10", -EINVAL, 0},
            {"0x1.8p1G", -EINVAL, 0},
            {"1.5e3G", -EINVAL, 0},
            {"1e3G", -EINVAL, 0},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                uint64_t v = 12345;

                if (size_parse(cases[i].text, &v) != cases[i].r)
                        fail_msg("\"%s\" gave %d", cases[i].text, size_parse(cases[i].text, &v));
                assert_true(v == (cases[i].r < 0 ? 12345 : cases[i].bytes));
        }
        assert_int_equal(size_parse(NULL, NULL), -EINVAL);
}

static void sizes_are_written_for_people(void **state)
{
        static const struct {
                uint64_t bytes;
                const char *text;
        } cases[] = {
            {0, "0 B"},
            {1023, "1023 B"},
            {1024, "1 KiB"},
            {1536, "1.5 KiB"},
            {10ULL << 30, "10 GiB"},
            {(10ULL << 30) + (1ULL << 29), "10.5 GiB"},
            {(1ULL << 30) - 1, "1 GiB"},
            {(1ULL << 20) * 1023 + 1023 * 1024, "1 GiB"},
            {1023ULL << 20, "1023 MiB"},
            {UINT64_MAX, "16 EiB"},
        };
        char buf[16];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_string_equal(size_format(cases[i].bytes, buf, sizeof(buf)), cases[i].text);
}

/* util: names, files */

static void uuids_are_random_and_checked(void **state)
{
        char a[UUID_LEN + 1], b[UUID_LEN + 1];

        for (int i = 0; i < 100; i++) {
                uuid_random(a);
                uuid_random(b);
                assert_true(uuid_valid(a));
                assert_string_not_equal(a, b);
                assert_int_equal(a[14], '4');
                assert_non_null(strchr("89ab", a[19]));
        }
        assert_false(uuid_valid(NULL));
        assert_false(uuid_valid(""));
        assert_false(uuid_valid("6F9619FF-8B86-4011-B42D-00C04FC964FF"));
        assert_false(uuid_valid("6f9619ff-8b86-4011-b42d-00c04fc964ff0"));
        assert_false(uuid_valid("6f9619ff08b86-4011-b42d-00c04fc964ff"));
        assert_false(uuid_valid("6f9619ff-8b86-4011-b42d-00c04fc964f/"));
        assert_true(uuid_valid("6f9619ff-8b86-4011-b42d-00c04fc964ff"));
}

static void files_are_read_up_to_the_limit(void **state)
{
        struct err err = {0};
        char *text = NULL;
        size_t len = 99;

        assert_int_equal(file_write(in_folder("a"), "hello\0you", 9, 0640, &err), 0);
        assert_int_equal(file_read(in_folder("a"), 9, &text, &len, &err), 0);
        assert_int_equal(len, 9);
        assert_memory_equal(text, "hello\0you", 10);
        freep(&text);
        text = NULL;
        assert_int_equal(file_read(in_folder("a"), 8, &text, &len, &err), -EFBIG);
        assert_non_null(strstr(err.text, "limit of 8"));
        assert_null(text);
        assert_int_equal(file_read(in_folder("none"), 8, &text, &len, &err), -ENOENT);
        assert_int_equal(file_read(folder, 8, &text, &len, &err), -EISDIR);
        assert_int_equal(file_write(in_folder("a"), "", 0, 0640, &err), 0);
        assert_int_equal(file_read(in_folder("a"), 0, &text, &len, &err), 0);
        assert_string_equal(text, "");
        freep(&text);
}

static void a_failed_write_leaves_the_old_file_and_no_other(void **state)
{
        struct err err = {0};
        struct stat st;
        char command[400];

        assert_int_equal(mkdir(in_folder("busy"), 0755), 0);
        assert_int_equal(file_write(in_folder("busy/x"), "1", 1, 0600, &err), 0);
        assert_int_equal(stat(in_folder("busy/x"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        /* The rename onto a folder fails; the temporary file must go. */
        assert_true(file_write(in_folder("busy"), "2", 1, 0600, &err) < 0);
        snprintf(command, sizeof(command), "test \"$(ls -A %s | grep -c '^busy')\" = 1", folder);
        assert_int_equal(system(command), 0);
        assert_int_equal(file_write(in_folder("none/x"), "2", 1, 0600, &err), -ENOENT);
}

static void folders_are_made_with_their_parents(void **state)
{
        struct err err = {0};
        struct stat st;

        assert_int_equal(mkdir_p(in_folder("p/q/r"), 0750, &err), 0);
        assert_int_equal(stat(in_folder("p/q/r"), &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(mkdir_p(in_folder("p/q/r/"), 0750, &err), 0);
        assert_int_equal(mkdir_p("/", 0750, &err), 0);
        assert_int_equal(file_write(in_folder("p/file"), "", 0, 0600, &err), 0);
        assert_int_equal(mkdir_p(in_folder("p/file"), 0750, &err), -ENOTDIR);
        assert_int_equal(mkdir_p(in_folder("p/file/x"), 0750, &err), -ENOTDIR);
        assert_int_equal(mkdir_p("", 0750, &err), -ENOENT);
}

static void *writer(void *arg)
{
        int fd = *(int *)arg;

        for (int i = 0; i < 3; i++) {
                assert_int_equal(write_full(fd, "0123456789", 10), 0);
                usleep(1000);
        }
        close(fd);
        return NULL;
}

static void reads_are_whole_or_end_with_the_file(void **state)
{
        int fds[2];
        pthread_t thread;
        char buf[64];

        assert_int_equal(pipe(fds), 0);
        pthread_create(&thread, NULL, writer, &fds[1]);
        assert_int_equal(read_full(fds[0], buf, 25), 25);
        assert_int_equal(read_full(fds[0], buf, sizeof(buf)), 5);
        assert_int_equal(read_full(fds[0], buf, sizeof(buf)), 0);
        pthread_join(thread, NULL);
        close(fds[0]);
        assert_int_equal(read_full(fds[0], buf, 1), -EBADF);
        assert_int_equal(write_full(-1, "x", 1), -EBADF);
}

static void ownership_is_handed_over(void **state)
{
        char *p = strdup("x"), *q = take(p);
        int fd = 7;

        assert_null(p);
        assert_string_equal(q, "x");
        free(q);
        assert_int_equal(take_fd(&fd), 7);
        assert_int_equal(fd, -1);
        assert_true(streq(NULL, NULL));
        assert_false(streq(NULL, ""));
        assert_true(streq("a", "a"));
}

/* json */

static void json_members_have_defaults(void **state)
{
        _cleanup_(json_decrefpp) json_t *j = NULL;
        struct err err = {0};

        assert_int_equal(
            json_parse("{\"s\":\"x\",\"i\":5,\"b\":true,\"o\":{\"p\":{\"q\":1}},\"n\":null}", "t", &j, &err),
            0);
        assert_string_equal(json_get_str(j, "s", "no"), "x");
        assert_string_equal(json_get_str(j, "i", "no"), "no");
        assert_int_equal(json_get_int(j, "i", 9), 5);
        assert_int_equal(json_get_int(j, "s", 9), 9);
        assert_true(json_get_bool(j, "b", false));
        assert_true(json_get_bool(j, "missing", true));
        assert_int_equal(json_integer_value(json_path(j, "o.p.q")), 1);
        assert_true(json_is_object(json_path(j, "o.p")));
        assert_null(json_path(j, "o.x.q"));
        assert_null(json_path(j, "o.p.q.r"));
        assert_null(json_path(j, ""));
        assert_null(json_path(NULL, "a"));
        assert_null(json_get_str(NULL, "a", NULL));
}

static void bad_json_is_named(void **state)
{
        struct err err = {0};
        json_t *j = NULL;
        char *text;

        assert_int_equal(json_parse("{\n\"a\": }", "record 7", &j, &err), -EBADMSG);
        assert_non_null(strstr(err.text, "record 7"));
        assert_non_null(strstr(err.text, "line 2"));
        assert_int_equal(json_parse("{\"a\":1,\"a\":2}", "r", &j, &err), -EBADMSG);
        assert_int_equal(json_parse("{} x", "r", &j, &err), -EBADMSG);
        assert_int_equal(json_parse("", "r", &j, &err), -EBADMSG);
        assert_null(j);
        j = json_pack("{s:i,s:[s]}", "b", 1, "a", "x");
        text = json_text(j);
        assert_string_equal(text, "{\"a\":[\"x\"],\"b\":1}");
        free(text);
        json_decref(j);
}

/* clock */

static void clocks_go_forward(void **state)
{
        int64_t ns = clock_ns(), ms = clock_ms();
        char stamp[CLOCK_STAMP_LEN + 1];
        int y, mo, d, h, mi, s, f;

        usleep(2000);
        assert_true(clock_ns() - ns >= 2000000);
        assert_true(clock_ms() >= ms + 1);
        assert_int_equal(strlen(clock_stamp(stamp)), CLOCK_STAMP_LEN);
        assert_int_equal(sscanf(stamp, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &y, &mo, &d, &h, &mi, &s, &f), 7);
        assert_int_equal(stamp[CLOCK_STAMP_LEN - 1], 'Z');
        assert_in_range(y, 2024, 9999);
        assert_in_range(mo, 1, 12);
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
            cmocka_unit_test(err_set_formats_and_returns_the_code),
            cmocka_unit_test(err_set_may_quote_its_own_text),
            cmocka_unit_test(err_wrap_puts_context_before),
            cmocka_unit_test(err_texts_are_cut_not_overrun),
            cmocka_unit_test(sizes_are_parsed_exactly),
            cmocka_unit_test(sizes_are_written_for_people),
            cmocka_unit_test(uuids_are_random_and_checked),
            cmocka_unit_test(files_are_read_up_to_the_limit),
            cmocka_unit_test(a_failed_write_leaves_the_old_file_and_no_other),
            cmocka_unit_test(folders_are_made_with_their_parents),
            cmocka_unit_test(reads_are_whole_or_end_with_the_file),
            cmocka_unit_test(ownership_is_handed_over),
            cmocka_unit_test(json_members_have_defaults),
            cmocka_unit_test(bad_json_is_named),
            cmocka_unit_test(clocks_go_forward),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
