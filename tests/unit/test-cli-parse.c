/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/cli/cli.h"

/* Splits a line at spaces and parses it; `line` without the program's name. */
static int parse(struct cli *cli, const char *line, struct err *err)
{
        static char copy[512];
        char *argv[32] = {(char *)(uintptr_t) "wherry"}, *save = NULL;
        int argc = 1;

        *cli = (struct cli){0};
        *err = (struct err){0};
        snprintf(copy, sizeof(copy), "%s", line);
        for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
                argv[argc++] = w;
        return cli_parse(cli, argc, argv, err);
}

static void commands_of_one_and_two_words_are_found(void **state)
{
        struct err err;
        struct cli cli;

        for (size_t i = 0; i < cli_n_commands; i++) {
                _cleanup_(freep) char *line = str_printf("%s --help", cli_commands[i].name);

                assert_int_equal(parse(&cli, line, &err), 0);
                assert_string_equal(cli.command->name, "help");
                assert_string_equal(cli.arguments[0], cli_commands[i].name);
        }
        assert_int_equal(parse(&cli, "image add /tmp/x.qcow2 --name debian", &err), 0);
        assert_string_equal(cli.command->name, "image add");
        assert_string_equal(cli.arguments[0], "/tmp/x.qcow2");
        assert_string_equal(cli_value(&cli, "--name"), "debian");
        assert_int_equal(parse(&cli, "--version", &err), 0);
        assert_string_equal(cli.command->name, "version");
        assert_int_equal(parse(&cli, "image add x --version 12", &err), 0);
        assert_string_equal(cli_value(&cli, "--version"), "12");
}

static void options_stand_anywhere_and_keep_their_fallbacks(void **state)
{
        struct err err;
        struct cli cli;

        assert_int_equal(
            parse(&cli, "--json --url=http://a:1 run debian --cpus 4 --ssh-key a --memory=1G --ssh-key b",
                  &err),
            0);
        assert_true(cli.json);
        assert_string_equal(cli_value(&cli, "--url"), "http://a:1");
        assert_string_equal(cli_value(&cli, "--cpus"), "4");
        assert_string_equal(cli_value(&cli, "--memory"), "1G");
        assert_string_equal(cli_nth(&cli, "--ssh-key", 0), "a");
        assert_string_equal(cli_nth(&cli, "--ssh-key", 1), "b");
        assert_null(cli_nth(&cli, "--ssh-key", 2));
        assert_null(cli_value(&cli, "--disk"));
        assert_false(cli_given(&cli, "--iso"));
        assert_string_equal(cli.arguments[0], "debian");
        assert_int_equal(parse(&cli, "run x", &err), 0);
        assert_null(cli_value(&cli, "--memory"));
        assert_string_equal(cli_value(&cli, "--cpus"), "1");
        assert_int_equal(parse(&cli, "events -f", &err), 0);
        assert_true(cli_given(&cli, "--follow"));
        assert_int_equal(parse(&cli, "show -- --odd-name", &err), 0);
        assert_string_equal(cli.arguments[0], "--odd-name");
        assert_int_equal(parse(&cli, "run x --cpus 2 --cpus 3", &err), 0);
        assert_string_equal(cli_value(&cli, "--cpus"), "3");
}

static void wrong_usage_says_what_is_right(void **state)
{
        static const struct {
                const char *line, *words;
        } cases[] = {
            {"", "wherry help"},
            {"fly", "no command \"fly\""},
            {"image", "needs one of: add, capture, inspect, convert, list, show, set"},
            {"image fly", "no \"wherry image fly\"; \"wherry image\" has: add, capture, inspect, convert, "
                          "list, show, set"},
            {"host --json", "needs one of: list, show"},
            {"run", "wherry run IMAGE"},
            {"run a b", "one argument too many"},
            {"ls x", "one argument too many"},
            {"run a --cpu 2", "no option \"--cpu\" for wherry run"},
            {"run a --name", "--name needs a value: --name NAME"},
            {"run a --iso=yes", "--iso takes no value"},
            {"run a --cpus two", "--cpus two: not a whole number"},
            {"run a --cpus=", "not a whole number"},
            {"run a --cpus 99999999999999999999", "not a whole number"},
            {"run a --memory lots", "--memory lots: not a size"},
            {"run a --timeout 5m", "--timeout 5m: not a whole number"},
            {"events -fx", "one by one"},
            {"events -x", "no option \"-x\""},
            {"--nonsense ls", "before the command"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct err err;
                struct cli cli;

                if (parse(&cli, cases[i].line, &err) != -EINVAL || !cli.usage ||
                    !strstr(err.text, cases[i].words))
                        fail_msg("\"%s\": %s", cases[i].line, err.text);
        }
}

static void too_many_options_are_refused_not_overrun(void **state)
{
        struct err err = {0};
        struct cli cli = {0};
        char *argv[2 * CLI_VALUES_MAX + 6];
        int argc = 0;

        argv[argc++] = (char *)(uintptr_t) "wherry";
        argv[argc++] = (char *)(uintptr_t) "run";
        argv[argc++] = (char *)(uintptr_t) "x";
        for (int i = 0; i <= CLI_VALUES_MAX; i++) {
                argv[argc++] = (char *)(uintptr_t) "--ssh-key";
                argv[argc++] = (char *)(uintptr_t) "f";
        }
        argv[argc] = NULL;
        assert_int_equal(cli_parse(&cli, argc, argv, &err), -EINVAL);
        assert_int_equal(cli.n_values, CLI_VALUES_MAX);
}

static void numbers_and_sizes_keep_their_range(void **state)
{
        struct err err;
        struct cli cli;
        int64_t n = 0;
        uint64_t size = 0;

        assert_int_equal(parse(&cli, "run x --cpus 8 --disk 20G", &err), 0);
        assert_int_equal(cli_number(&cli, "--cpus", 1, 8, &n, &err), 0);
        assert_int_equal(n, 8);
        assert_int_equal(cli_number(&cli, "--cpus", 1, 7, &n, &err), -EINVAL);
        assert_true(cli.usage);
        assert_non_null(strstr(err.text, "from 1 to 7"));
        assert_int_equal(cli_size(&cli, "--disk", 1, &size, &err), 0);
        assert_true(size == 20ULL << 30);
        assert_int_equal(cli_size(&cli, "--disk", 21ULL << 30, &size, &err), -EINVAL);
        assert_non_null(strstr(err.text, "the least is 21 GiB"));
        assert_int_equal(parse(&cli, "run x --priority -5", &err), 0);
        assert_int_equal(cli_number(&cli, "--priority", -10, 10, &n, &err), 0);
        assert_int_equal(n, -5);
}

static void the_table_is_sound(void **state)
{
        for (size_t i = 0; i < cli_n_commands; i++) {
                const struct cli_command *c = &cli_commands[i];

                assert_non_null(c->handler);
                assert_true(c->help[0]);
                assert_true(c->min_arguments <= c->max_arguments);
                assert_true(c->max_arguments <= ARRAY_SIZE(((struct cli *)NULL)->arguments));
                assert_int_equal(c->max_arguments == 0, c->arguments[0] == '\0');
                for (size_t j = i + 1; j < cli_n_commands; j++)
                        assert_string_not_equal(c->name, cli_commands[j].name);
                for (size_t j = 0; j < c->n_options; j++) {
                        assert_memory_equal(c->options[j].name, "--", 2);
                        assert_true(c->options[j].help[0]);
                        for (size_t k = 0; k < cli_n_common_options; k++)
                                assert_string_not_equal(c->options[j].name, cli_common_options[k].name);
                }
        }
}

/* Settings: in a home of the test's own. */

static char home[] = "/tmp/wherry-test-cli.XXXXXX";

static void put(const char *name, const char *text)
{
        _cleanup_(freep) char *path = str_printf("%s/%s", home, name);
        struct err err = {0};

        if (file_write(path, text, strlen(text), 0600, &err) < 0)
                fail_msg("%s", err.text);
}

static void settings_come_from_the_first_that_says_them(void **state)
{
        _cleanup_(freep) char *line = str_printf("ls --url http://option:1 --token-file %s/other", home);
        _cleanup_(freep) char *config =
            str_printf("[server]\nurl = http://file:1\ntoken_file = %s/token\n", home);
        struct err err;
        struct cli cli;

        put("token", "from-file\n");
        put("other", "from-option\n");
        assert_int_equal(parse(&cli, "ls", &err), 0);
        assert_int_equal(cli_settings(&cli, &err), 0);
        assert_string_equal(cli.url, "http://127.0.0.1:8080");
        assert_null(cli.token);
        cli_done(&cli);

        put(".config/wherry/config", config);
        assert_int_equal(parse(&cli, "ls", &err), 0);
        assert_int_equal(cli_settings(&cli, &err), 0);
        assert_string_equal(cli.url, "http://file:1");
        assert_string_equal(cli.token, "from-file");
        cli_done(&cli);

        setenv("WHERRY_URL", "http://environment:1", 1);
        setenv("WHERRY_TOKEN", "from-environment", 1);
        assert_int_equal(parse(&cli, "ls", &err), 0);
        assert_int_equal(cli_settings(&cli, &err), 0);
        assert_string_equal(cli.url, "http://environment:1");
        assert_string_equal(cli.token, "from-environment");
        cli_done(&cli);

        assert_int_equal(parse(&cli, line, &err), 0);
        assert_int_equal(cli_settings(&cli, &err), 0);
        assert_string_equal(cli.url, "http://option:1");
        assert_string_equal(cli.token, "from-option");
        cli_done(&cli);
        unsetenv("WHERRY_URL");
        unsetenv("WHERRY_TOKEN");
}

static void broken_settings_are_named(void **state)
{
        _cleanup_(freep) char *missing = str_printf("ls --token-file %s/none", home);
        _cleanup_(freep) char *empty = str_printf("ls --token-file %s/empty", home);
        struct err err;
        struct cli cli;

        assert_int_equal(parse(&cli, missing, &err), 0);
        assert_int_equal(cli_settings(&cli, &err), -ENOENT);
        assert_non_null(strstr(err.text, "/none"));
        cli_done(&cli);
        put("empty", "\n");
        assert_int_equal(parse(&cli, empty, &err), 0);
        assert_int_equal(cli_settings(&cli, &err), -EINVAL);
        assert_non_null(strstr(err.text, "is empty"));
        cli_done(&cli);
        put(".config/wherry/config", "[server]\nulr = x\n");
        assert_int_equal(parse(&cli, "ls", &err), 0);
        assert_int_equal(cli_settings(&cli, &err), -EINVAL);
        assert_non_null(
            strstr(err.text, "config:2: [server] ulr is not a setting; [server] knows: url token_file"));
        cli_done(&cli);
}

static int make_home(void **state)
{
        _cleanup_(freep) char *config = NULL;

        if (!mkdtemp(home))
                return -1;
        setenv("HOME", home, 1);
        unsetenv("XDG_CONFIG_HOME");
        unsetenv("WHERRY_URL");
        unsetenv("WHERRY_TOKEN");
        config = str_printf("%s/.config/wherry", home);
        return mkdir_p(config, 0700, NULL);
}

static int remove_home(void **state)
{
        _cleanup_(freep) char *command = str_printf("rm -rf %s", home);

        return system(command);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(commands_of_one_and_two_words_are_found),
            cmocka_unit_test(options_stand_anywhere_and_keep_their_fallbacks),
            cmocka_unit_test(wrong_usage_says_what_is_right),
            cmocka_unit_test(too_many_options_are_refused_not_overrun),
            cmocka_unit_test(numbers_and_sizes_keep_their_range),
            cmocka_unit_test(the_table_is_sound),
            cmocka_unit_test(settings_come_from_the_first_that_says_them),
            cmocka_unit_test(broken_settings_are_named),
        };

        return cmocka_run_group_tests(tests, make_home, remove_home);
}
