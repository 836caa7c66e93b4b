/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "imaged/cli/cli.h"

/* What the table says, as text for a terminal. The page and the completion are in manual.c and completion.c.
 */

static void print_options(const struct cli_option *options, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                const struct cli_option *o = &options[i];
                char left[64], letter[8] = "";

                if (o->letter)
                        snprintf(letter, sizeof(letter), "-%c, ", o->letter);
                snprintf(left, sizeof(left), "%s%s%s%s", letter, o->name, o->value ? " " : "",
                         o->value ? o->value : "");
                printf("  %-22s %s", left, o->help);
                if (o->fallback)
                        printf(" (default: %s)", o->fallback);
                putchar('\n');
        }
}

/* Breaks a paragraph at spaces, so that it fits a terminal of 80 columns. */
static void print_wrapped(const char *text)
{
        size_t column = 0;

        while (*text) {
                size_t n = strcspn(text, " ");

                if (column + n + 1 > 78) {
                        putchar('\n');
                        column = 0;
                }
                printf("%s%.*s", column ? " " : "", (int)n, text);
                column += n + 1;
                text += n + strspn(text + n, " ");
        }
        putchar('\n');
}

static void help_one(const struct cli_command *c)
{
        printf("usage: wherry %s%s%s%s\n\n%s\n", c->name, c->n_options ? " [OPTION...]" : "",
               c->arguments[0] ? " " : "", c->arguments, c->help);
        if (c->details) {
                putchar('\n');
                print_wrapped(c->details);
        }
        printf("\noptions:\n");
        print_options(c->options, c->n_options);
        print_options(cli_common_options, cli_n_common_options);
}

void cli_help(const struct cli_command *command)
{
        int width = 0;

        if (command) {
                help_one(command);
                return;
        }
        for (size_t i = 0; i < cli_n_commands; i++)
                width = MAX_OF(width,
                               (int)(strlen(cli_commands[i].name) + strlen(cli_commands[i].arguments)) + 1);
        printf("usage: wherry COMMAND [OPTION...] [ARGUMENT...]\n\ncommands:\n");
        for (size_t i = 0; i < cli_n_commands; i++) {
                const struct cli_command *c = &cli_commands[i];
                char left[64];

                snprintf(left, sizeof(left), "%s %s", c->name, c->arguments);
                printf("  %-*s  %s\n", width, left, c->help);
        }
        printf("\noptions that every command takes:\n");
        print_options(cli_common_options, cli_n_common_options);
        printf("\n\"wherry COMMAND --help\" tells more; so does the manual page wherry(1).\n"
               "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted (Ctrl-C).\n");
}

int cmd_help(struct cli *cli, struct err *err)
{
        char name[64];

        if (!cli->arguments[0]) {
                cli_help(NULL);
                return 0;
        }
        snprintf(name, sizeof(name), "%s%s%s", cli->arguments[0], cli->arguments[1] ? " " : "",
                 cli->arguments[1] ? cli->arguments[1] : "");
        for (size_t i = 0; i < cli_n_commands; i++) {
                if (streq(cli_commands[i].name, name)) {
                        cli_help(&cli_commands[i]);
                        return 0;
                }
        }
        return cli_usage(cli, err, "there is no command \"%s\"; \"wherry help\" lists them", name);
}

int cmd_version(struct cli *cli, struct err *err)
{
        if (cli->json) {
                json_t *j = json_pack("{s:s}", "version", WHERRY_VERSION);

                if (!j)
                        return err_set(err, -ENOMEM, "out of memory");
                cli_print(cli, j);
                json_decref(j);
        } else
                printf("wherry %s\n", WHERRY_VERSION);
        return 0;
}
