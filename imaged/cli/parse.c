/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/cli/cli.h"

int cli_usage(struct cli *cli, struct err *err, const char *fmt, ...)
{
        char text[sizeof(err->text)];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        cli->usage = true;
        return err_set(err, -EINVAL, "%s", text);
}

static const struct cli_command *command_named(const char *name)
{
        for (size_t i = 0; i < cli_n_commands; i++)
                if (streq(cli_commands[i].name, name))
                        return &cli_commands[i];
        return NULL;
}

/* "image" alone is the first word of several commands: says which. */
static int unknown_command(struct cli *cli, const char *first, const char *second, struct err *err)
{
        char known[256] = "";
        size_t n = strlen(first);

        for (size_t i = 0; i < cli_n_commands; i++) {
                const char *name = cli_commands[i].name;

                if (strncmp(name, first, n) == 0 && name[n] == ' ')
                        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s",
                                 known[0] ? ", " : "", name + n + 1);
        }
        if (!known[0])
                return cli_usage(cli, err, "there is no command \"%s\"; \"wherry help\" lists them", first);
        if (!second)
                return cli_usage(cli, err, "\"wherry %s\" needs one of: %s", first, known);
        return cli_usage(cli, err, "there is no \"wherry %s %s\"; \"wherry %s\" has: %s", first, second,
                         first, known);
}

static const struct cli_option *find_in(const struct cli_option *options, size_t n, const char *name,
                                        size_t len, char letter)
{
        for (size_t i = 0; i < n; i++) {
                if (letter ? options[i].letter == letter
                           : strlen(options[i].name) == len && strncmp(options[i].name, name, len) == 0)
                        return &options[i];
        }
        return NULL;
}

/* An option of the command, or one that all take. Before the command is known only the common ones are. */
static const struct cli_option *option_find(const struct cli_command *command, const char *name, size_t len,
                                            char letter)
{
        const struct cli_option *o =
            command ? find_in(command->options, command->n_options, name, len, letter) : NULL;

        return o ? o : find_in(cli_common_options, cli_n_common_options, name, len, letter);
}

/* What the table calls N, SECONDS or SIZE is one; its range is the handler's. */
static int value_check(struct cli *cli, const struct cli_option *o, const char *value, struct err *err)
{
        uint64_t size;
        char *end;

        if (streq(o->value, "SIZE") && size_parse(value, &size) < 0)
                return cli_usage(cli, err, "%s %s: not a size; write it like 512M, 10G or 1.5T", o->name,
                                 value);
        if (!streq(o->value, "N") && !streq(o->value, "SECONDS"))
                return 0;
        errno = 0;
        (void)!strtoll(value, &end, 10);
        if (errno || end == value || *end != '\0')
                return cli_usage(cli, err, "%s %s: not a whole number", o->name, value);
        return 0;
}

/* The value after "--name=VALUE" or in the next word; *at is moved past what was used. */
static int option_take(struct cli *cli, char **argv, int *at, struct err *err)
{
        const char *word = argv[*at], *equals = strchr(word, '='), *value = NULL;
        bool is_long = word[1] == '-';
        size_t len = equals ? (size_t)(equals - word) : strlen(word);
        const struct cli_option *o;

        if (!is_long && word[2] != '\0')
                return cli_usage(cli, err, "\"%s\": write short options one by one", word);
        o = option_find(cli->command, word, len, is_long ? 0 : word[1]);
        if (!o)
                return cli_usage(cli, err, "there is no option \"%.*s\"%s%s; \"wherry help%s%s\" lists them",
                                 (int)len, word, cli->command ? " for wherry " : " before the command",
                                 cli->command ? cli->command->name : "", cli->command ? " " : "",
                                 cli->command ? cli->command->name : "");
        if (o->value) {
                value = is_long && equals ? equals + 1 : argv[*at + 1];
                if (!value)
                        return cli_usage(cli, err, "%s needs a value: %s %s", o->name, o->name, o->value);
                if (!(is_long && equals))
                        (*at)++;
        } else if (equals)
                return cli_usage(cli, err, "%s takes no value, but \"%s\" was given", o->name, equals + 1);
        if (cli->n_values == CLI_VALUES_MAX)
                return cli_usage(cli, err, "more than %d options", CLI_VALUES_MAX);
        if (value && value_check(cli, o, value, err) < 0)
                return -EINVAL;
        cli->values[cli->n_values].option = o;
        cli->values[cli->n_values++].value = value;
        return 0;
}

/* The command of one word or two. Returns how many words it took. */
static int command_find(struct cli *cli, const char *first, const char *second, struct err *err)
{
        char name[64];

        if (second && second[0] != '-') { /* "store check" is not "store" with an argument */
                snprintf(name, sizeof(name), "%s %s", first, second);
                cli->command = command_named(name);
                if (cli->command)
                        return 2;
        } else
                second = NULL;
        cli->command = command_named(first);
        if (cli->command)
                return 1;
        return unknown_command(cli, first, second, err);
}

static int words_take(struct cli *cli, int argc, char **argv, size_t *ret_n, struct err *err)
{
        bool options_end = false;
        size_t n = 0;
        int r;

        for (int i = 1; i < argc; i++) {
                const char *word = argv[i];

                if (!options_end && streq(word, "--")) {
                        options_end = true;
                        continue;
                }
                if (!options_end && word[0] == '-' && word[1] != '\0') {
                        r = option_take(cli, argv, &i, err);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (!cli->command) {
                        r = command_find(cli, word, i + 1 < argc ? argv[i + 1] : NULL, err);
                        if (r < 0)
                                return cli_given(cli, "--help") ? 0 : r;
                        i += r - 1;
                        continue;
                }
                if (n == cli->command->max_arguments)
                        return cli_usage(cli, err, "\"%s\" is one argument too many: wherry %s %s", word,
                                         cli->command->name, cli->command->arguments);
                cli->arguments[n++] = word;
        }
        *ret_n = n;
        return 0;
}

int cli_parse(struct cli *cli, int argc, char **argv, struct err *err)
{
        size_t n = 0;
        int r;

        /* The customary way to ask; --version is an option of "image add" too, so only in first place. */
        if (argc == 2 && streq(argv[1], "--version")) {
                cli->command = command_named("version");
                return 0;
        }
        r = words_take(cli, argc, argv, &n, err);
        cli->json = cli_given(cli, "--json");
        if (r < 0)
                return r;
        if (cli_given(cli, "--help")) {
                if (cli->command) {
                        cli->arguments[0] = cli->command->name;
                        cli->arguments[1] = NULL;
                }
                cli->command = command_named("help");
                return 0;
        }
        if (!cli->command)
                return cli_usage(cli, err, "no command given; \"wherry help\" lists them");
        if (n < cli->command->min_arguments)
                return cli_usage(cli, err, "an argument is missing: wherry %s %s", cli->command->name,
                                 cli->command->arguments);
        return 0;
}

const char *cli_nth(const struct cli *cli, const char *name, size_t nth)
{
        for (size_t i = 0; i < cli->n_values; i++)
                if (streq(cli->values[i].option->name, name) && nth-- == 0)
                        return cli->values[i].value ? cli->values[i].value : "";
        return NULL;
}

bool cli_given(const struct cli *cli, const char *name)
{
        return cli_nth(cli, name, 0) != NULL;
}

const char *cli_value(const struct cli *cli, const char *name)
{
        const struct cli_option *o = option_find(cli->command, name, strlen(name), 0);
        const char *value = NULL, *next;

        assert(o); /* a handler asks for options of its own table only */
        for (size_t i = 0; (next = cli_nth(cli, name, i)); i++)
                value = next; /* the last one counts */
        return value ? value : o->fallback;
}

int cli_number(struct cli *cli, const char *name, int64_t min, int64_t max, int64_t *ret, struct err *err)
{
        const char *text = cli_value(cli, name);
        long long v;
        char *end;

        errno = 0;
        v = strtoll(text, &end, 10);
        if (errno || end == text || *end != '\0' || v < min || v > max)
                return cli_usage(cli, err, "%s %s: not a whole number from %lld to %lld", name, text,
                                 (long long)min, (long long)max);
        *ret = v;
        return 0;
}

int cli_size(struct cli *cli, const char *name, uint64_t min, uint64_t *ret, struct err *err)
{
        const char *text = cli_value(cli, name);
        char least[24];
        uint64_t v;

        if (size_parse(text, &v) < 0)
                return cli_usage(cli, err, "%s %s: not a size; write it like 512M, 10G or 1.5T", name, text);
        if (v < min)
                return cli_usage(cli, err, "%s %s: the least is %s; write it like 512M, 10G or 1.5T", name,
                                 text, size_format(min, least, sizeof(least)));
        *ret = v;
        return 0;
}
