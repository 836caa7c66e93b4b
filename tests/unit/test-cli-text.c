/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/cli/failovers.h"
#include "imaged/cli/human.h"
#include "imaged/cli/image.h"
#include "imaged/cli/instance.h"
#include "imaged/cli/migrate.h"
#include "imaged/cli/progress.h"
#include "imaged/cli/table.h"

/* tables */

static char *printed(const struct table *t, bool titles)
{
        char *text = NULL;
        size_t len = 0;
        FILE *f = open_memstream(&text, &len);

        assert_non_null(f);
        if (titles)
                table_print(t, f);
        else
                table_print_plain(t, f);
        fclose(f);
        return text;
}

static void tables_align(void **state)
{
        static const char *const titles[] = {"NAME", ">SIZE", "STATE"};
        struct table *t = table_new(titles, 3);
        char *text;

        table_add(t, "web1");
        table_addf(t, "%d", 5);
        table_add(t, "running");
        table_add(t, "mädchen"); /* seven characters, eight bytes */
        table_add(t, "12345678");
        table_add(t, NULL);
        table_add(t, "half a row");
        text = printed(t, true);
        assert_string_equal(text, "NAME            SIZE  STATE\n"
                                  "web1               5  running\n"
                                  "mädchen     12345678  -\n");
        free(text);
        table_free(t);
}

static void a_table_with_only_titles_has_their_width(void **state)
{
        static const char *const titles[] = {"NAME", "STATE"};
        struct table *t = table_new(titles, 2);
        char *text = printed(t, true);

        assert_string_equal(text, "NAME  STATE\n");
        free(text);
        table_free(t);
}

static void cells_cannot_steer_the_terminal(void **state)
{
        static const char *const titles[] = {"", ""};
        struct table *t = table_new(titles, 2);
        char *text;

        table_add(t, "name:");
        table_add(t, "a\x1b[2J\nb");
        text = printed(t, false);
        assert_string_equal(text, "name:  a?[2J?b\n");
        free(text);
        table_free(t);
}

/* human */

static void ages_are_relative(void **state)
{
        static const struct {
                const char *stamp, *text;
        } cases[] = {
            {"2026-01-31T12:00:00.000Z", "just now"},
            {"2026-01-31T11:59:59Z", "just now"},
            {"2026-01-31T11:59:50.123Z", "10 s ago"},
            {"2026-01-31T11:58:59Z", "1 min ago"},
            {"2026-01-31T09:00:00Z", "3 hours ago"},
            {"2026-01-30T11:00:00Z", "1 day ago"},
            {"2025-12-31T12:00:00+00:00", "31 days ago"},
            {"2026-01-31T12:00:30Z", "just now"},
            {"yesterday", "-"},
            {"", "-"},
            {"2026-01-31T12:00:00 CET", "-"},
        };
        time_t now = human_stamp_parse("2026-01-31T12:00:00Z");
        char buf[HUMAN_LEN];

        assert_int_equal(now, 1769860800);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_string_equal(human_age(cases[i].stamp, now, buf), cases[i].text);
        assert_string_equal(human_age(NULL, now, buf), "-");
        assert_string_equal(human_until("2026-01-31T12:00:04.500Z", now, buf), "in 4 s");
        assert_string_equal(human_until(cases[0].stamp, now, buf), "at any moment");
        assert_string_equal(human_until(NULL, now, buf), "at any moment");
}

static void durations_fit_their_size(void **state)
{
        char buf[HUMAN_LEN];

        assert_string_equal(human_duration(-1, buf), "unknown");
        assert_string_equal(human_duration(0, buf), "0 ms");
        assert_string_equal(human_duration(850, buf), "850 ms");
        assert_string_equal(human_duration(12400, buf), "12.4 s");
        assert_string_equal(human_duration(187000, buf), "3:07");
        assert_string_equal(human_duration(3753000, buf), "1:02:33");
}

/* progress */

static void a_bar_shows_rate_and_time_left(void **state)
{
        struct progress p = {.what = "adding debian"};
        char line[256];
        const uint64_t gib = 1ULL << 30;

        progress_line(&p, 0, 2 * gib, 0, 120, line, sizeof(line));
        assert_string_equal(line,
                            "adding debian  [----------------------------------------]   0%  0 B / 2 GiB");
        progress_line(&p, gib, 2 * gib, 10000, 140, line, sizeof(line));
        assert_string_equal(line, "adding debian  [####################--------------------]  50%  1 GiB / "
                                  "2 GiB  102 MiB/s  10.0 s left");
        progress_line(&p, 2 * gib - 4096, 2 * gib, 10400, 140, line, sizeof(line));
        assert_non_null(strstr(line, "  1.0 s left"));
        progress_line(&p, 2 * gib, 2 * gib, 10400, 140, line, sizeof(line));
        assert_null(strstr(line, "left"));
        progress_line(&p, 2 * gib, 2 * gib, 20000, 140, line, sizeof(line));
        assert_non_null(strstr(line, "[########################################] 100%"));
        /* More than the total: memory that is sent twice. */
        progress_line(&p, 3 * gib, 2 * gib, 21000, 140, line, sizeof(line));
        assert_non_null(strstr(line, "100%  2 GiB / 2 GiB"));
}

static void a_narrow_terminal_gets_a_narrow_bar(void **state)
{
        struct progress p = {.what = "adding debian"};
        char line[256];

        for (unsigned columns = 20; columns < 100; columns++) {
                progress_line(&p, 1 << 20, 4 << 20, 100, columns, line, sizeof(line));
                assert_true(strlen(line) < columns || !strchr(line, '['));
        }
        progress_line(&p, 5 << 20, 0, 100, 80, line, sizeof(line)); /* no total known */
        assert_string_equal(line, "adding debian  5 MiB");
}

/* names of images */

static void images_are_named_after_their_files(void **state)
{
        static const struct {
                const char *path, *name, *format;
        } cases[] = {
            {"/srv/debian-12.qcow2", "debian-12", "qcow2"},
            {"debian.ISO", "debian", "iso"},
            {"disk", "disk", NULL},
            {"./.hidden", ".hidden", NULL},
            {"a.b/c.raw", "c", "raw"},
            {"https://example.org/x/jammy.img?token=a/b.iso", "jammy", NULL},
            {"https://example.org/x/netinst.iso#top", "netinst", "iso"},
            {"http://example.org/dir/", "dir", NULL},
            {"/srv/what?.raw", "what?", "raw"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char *name = image_name_from(cases[i].path);

                assert_string_equal(name, cases[i].name);
                assert_true(streq(image_format_from(cases[i].path), cases[i].format));
                free(name);
        }
}

/* outcomes */

static json_t *record(const char *state, const char *since, int restart, int status_restart)
{
        return json_pack("{s:s,s:i,s:{s:s,s:s,s:i,s:s}}", "name", "web1", "restart", restart, "status",
                         "state", state, "since", since, "restart", status_restart, "error", "no boot disk");
}

static int reached(enum instance_goal goal, json_t *rec, json_t *before)
{
        struct err err = {0};
        int r = instance_reached(goal, rec, before, &err);

        assert_int_equal(r < 0, err.code != 0);
        if (r == -EIO)
                assert_string_equal(err.text, "web1 failed: no boot disk");
        json_decref(rec);
        json_decref(before);
        return r;
}

static void outcomes_are_told_from_what_was_before(void **state)
{
        assert_int_equal(reached(GOAL_RUNNING, record("starting", "1", 0, 0), record("stopped", "0", 0, 0)),
                         0);
        assert_int_equal(reached(GOAL_RUNNING, record("running", "1", 0, 0), record("stopped", "0", 0, 0)),
                         1);
        /* A failure from before the start is not its outcome, a new one is. */
        assert_int_equal(reached(GOAL_RUNNING, record("failed", "0", 0, 0), record("failed", "0", 0, 0)), 0);
        assert_int_equal(reached(GOAL_RUNNING, record("failed", "1", 0, 0), record("failed", "0", 0, 0)),
                         -EIO);
        assert_int_equal(reached(GOAL_RUNNING, record("failed", "1", 0, 0), record("pending", "0", 0, 0)),
                         -EIO);
        assert_int_equal(reached(GOAL_RUNNING, NULL, record("pending", "0", 0, 0)), -ENOENT);
        assert_int_equal(reached(GOAL_STOPPED, record("stopping", "1", 0, 0), record("running", "0", 0, 0)),
                         0);
        assert_int_equal(reached(GOAL_STOPPED, record("stopped", "1", 0, 0), record("running", "0", 0, 0)),
                         1);
        /* Running is a restart's outcome only once the host has counted it. */
        assert_int_equal(reached(GOAL_RESTARTED, record("running", "0", 3, 2), record("running", "0", 3, 2)),
                         0);
        assert_int_equal(reached(GOAL_RESTARTED, record("running", "1", 3, 3), record("running", "0", 3, 2)),
                         1);
        assert_int_equal(
            reached(GOAL_RESTARTED, record("starting", "1", 3, 3), record("running", "0", 3, 2)), 0);
        assert_int_equal(reached(GOAL_GONE, record("stopped", "1", 0, 0), record("running", "0", 0, 0)), 0);
        assert_int_equal(reached(GOAL_GONE, NULL, record("running", "0", 0, 0)), 1);
}

static int moved(int serial, const char *state)
{
        json_t *rec = json_pack("{s:{s:{s:i,s:s,s:s}}}", "status", "move", "serial", serial, "state", state,
                                "error", "no route");
        struct err err = {0};
        int r = move_reached(rec, 7, &err);

        json_decref(rec);
        return r;
}

static void a_move_is_over_when_its_own_serial_says_so(void **state)
{
        json_t *none = json_object();

        assert_int_equal(move_reached(none, 7, NULL), 0);
        json_decref(none);
        assert_int_equal(moved(6, "done"), 0);
        assert_int_equal(moved(6, "failed"), 0);
        assert_int_equal(moved(7, "running"), 0);
        assert_int_equal(moved(7, "done"), 1);
        assert_int_equal(moved(7, "failed"), -EIO);
        assert_int_equal(moved(8, "running"), -ESTALE);
}

static void times_to_look_back_to(void **state)
{
        static const struct {
                const char *text, *stamp;
        } t[] = {
            {"90s", "2026-01-31T11:58:30.000Z"},
            {"30m", "2026-01-31T11:30:00.000Z"},
            {"2h", "2026-01-31T10:00:00.000Z"},
            {"7d", "2026-01-24T12:00:00.000Z"},
            {"0s", "2026-01-31T12:00:00.000Z"},
            {"2026-01-30", "2026-01-30T00:00:00.000Z"},
            {"2026-01-30T07:08", "2026-01-30T07:08:00.000Z"},
            {"2026-01-30 07:08:09", "2026-01-30T07:08:09.000Z"},
            {"2026-01-30T07:08:09Z", "2026-01-30T07:08:09.000Z"},
        };
        static const char *const wrong[] = {"",          "2",          "h",           "-2h", "2w",
                                            "yesterday", "2026-13-01", "2026-01-30T", "2h3"};
        const time_t now = 1769860800; /* 2026-01-31T12:00:00Z */
        char stamp[WHEN_LEN + 8];
        struct err err = {0};

        setenv("TZ", "UTC", 1);
        tzset();
        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                assert_int_equal(since_parse(t[i].text, now, stamp, &err), 0);
                assert_string_equal(stamp, t[i].stamp);
        }
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                if (since_parse(wrong[i], now, stamp, &err) == 0)
                        fail_msg("\"%s\" is taken for %s", wrong[i], stamp);
                assert_non_null(strstr(err.text, wrong[i]));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(times_to_look_back_to),
            cmocka_unit_test(tables_align),
            cmocka_unit_test(a_table_with_only_titles_has_their_width),
            cmocka_unit_test(cells_cannot_steer_the_terminal),
            cmocka_unit_test(ages_are_relative),
            cmocka_unit_test(durations_fit_their_size),
            cmocka_unit_test(a_bar_shows_rate_and_time_left),
            cmocka_unit_test(a_narrow_terminal_gets_a_narrow_bar),
            cmocka_unit_test(images_are_named_after_their_files),
            cmocka_unit_test(outcomes_are_told_from_what_was_before),
            cmocka_unit_test(a_move_is_over_when_its_own_serial_says_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
