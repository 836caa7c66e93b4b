/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "imaged/cli/cli.h"

/* wherry(1) from the table, in the man macros of groff_man(7). The date is left to the package, for
 * identical builds. */

/* Text in which nothing may be taken for a request or an escape. */
static void put(const char *text)
{
        for (const char *p = text; *p; p++) {
                if (*p == '\\')
                        fputs("\\e", stdout);
                else if (*p == '-')
                        fputs("\\-", stdout);
                else if (*p == '~')
                        fputs("\\(ti", stdout);
                else if ((*p == '.' || *p == '\'') && (p == text || p[-1] == '\n'))
                        printf("\\&%c", *p);
                else
                        putchar(*p);
        }
}

static void put_options(const struct cli_option *options, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                const struct cli_option *o = &options[i];

                printf(".TP\n");
                if (o->letter)
                        printf("\\fB\\-%c\\fR, ", o->letter);
                printf("\\fB");
                put(o->name);
                printf("\\fR");
                if (o->value)
                        printf(" \\fI%s\\fR", o->value);
                putchar('\n');
                put(o->help);
                if (o->fallback) {
                        printf(" (default: ");
                        put(o->fallback);
                        printf(")");
                }
                putchar('\n');
        }
}

static void put_command(const struct cli_command *c)
{
        printf(".SS \"wherry %s", c->name);
        if (c->arguments[0])
                printf(" %s", c->arguments);
        printf("\"\n");
        put(c->help);
        printf(".\n");
        if (c->details) {
                printf(".PP\n");
                put(c->details);
                putchar('\n');
        }
        put_options(c->options, c->n_options);
}

void cli_manual(void)
{
        printf(".TH WHERRY 1 \"\" \"wherry %s\" \"User Commands\"\n"
               ".SH NAME\nwherry \\- images and instances on shared storage\n"
               ".SH SYNOPSIS\n.B wherry\n\\fICOMMAND\\fR [\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]\n"
               ".SH DESCRIPTION\n"
               "Talks to imaged: adds disk images and ISOs to the catalog, runs instances from them, and "
               "moves them\n"
               "between hosts. An \\fIIMAGE\\fR is a name or an id; a name that several images have is "
               "refused, with\n"
               "their ids. A \\fISIZE\\fR is a number of bytes, or one with K, M, G, T, P or E for powers "
               "of 1024.\n"
               ".SH COMMANDS\n",
               WHERRY_VERSION);
        for (size_t i = 0; i < cli_n_commands; i++)
                put_command(&cli_commands[i]);
        printf(".SH OPTIONS\nThese go with every command.\n");
        put_options(cli_common_options, cli_n_common_options);
        printf(
            ".SH ENVIRONMENT\n"
            ".TP\n.B WHERRY_URL\nThe server, where \\fB\\-\\-url\\fR does not say it.\n"
            ".TP\n.B WHERRY_TOKEN\nThe token itself, where \\fB\\-\\-token\\-file\\fR does not give it.\n"
            ".SH FILES\n"
            ".TP\n.I \\(ti/.config/wherry/config\nThe user's settings, read before those of the machine.\n"
            ".TP\n.I /etc/wherry/cli.conf\nThe machine's settings. Both look like this:\n"
            ".PP\n.nf\n.RS\n[server]\nurl = http://192.0.2.10:8080\ntoken_file = "
            "/etc/wherry/token\n.RE\n.fi\n"
            ".SH EXIT STATUS\n"
            "0 done, 1 failed, 2 wrong usage, 130 interrupted (Ctrl-C). With \\fB\\-\\-json\\fR a failure "
            "is a document too:\n"
            "{\\(dqerror\\(dq: {\\(dqcode\\(dq: ..., \\(dqmessage\\(dq: ...}}.\n"
            ".SH EXAMPLES\n.nf\n.RS\n"
            "wherry image add debian\\-12.qcow2 \\-\\-name debian \\-\\-os debian \\-\\-version 12\n"
            "wherry run debian \\-\\-name web1 \\-\\-cpus 2 \\-\\-memory 1G \\-\\-disk 20G\n"
            "wherry migrate web1 beta\n.RE\n.fi\n");
}

int cmd_manual(struct cli *cli, struct err *err)
{
        cli_manual();
        return 0;
}
