/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "imaged/cli/cli.h"

/*
 * Completion for bash, from the table: commands, their options, and for NAME, INSTANCE, IMAGE and HOST the
 * names that the server lists. The function's own part is short; what it completes are three case lists.
 */

/* "store" is a command, and the first word of "store check": whether there are such others. */
static bool is_group(const char *name)
{
        size_t n = strlen(name);

        for (size_t i = 0; i < cli_n_commands; i++)
                if (strncmp(cli_commands[i].name, name, n) == 0 && cli_commands[i].name[n] == ' ')
                        return true;
        return false;
}

static bool is_command(const char *name, size_t n)
{
        for (size_t i = 0; i < cli_n_commands; i++)
                if (strlen(cli_commands[i].name) == n && strncmp(cli_commands[i].name, name, n) == 0)
                        return true;
        return false;
}

static void put_group(const char *name, size_t n)
{
        const char *space = "";

        for (size_t i = 0; i < cli_n_commands; i++) {
                if (strncmp(cli_commands[i].name, name, n) != 0 || cli_commands[i].name[n] != ' ')
                        continue;
                printf("%s%s", space, cli_commands[i].name + n + 1);
                space = " ";
        }
}

static void put_words(void)
{
        printf("        '') words='");
        for (size_t i = 0; i < cli_n_commands; i++) {
                const char *name = cli_commands[i].name;
                size_t n = strcspn(name, " ");

                /* The commands of a group follow each other in the table. */
                if (i == 0 || strncmp(cli_commands[i - 1].name, name, n) != 0 ||
                    (cli_commands[i - 1].name[n] != ' ' && cli_commands[i - 1].name[n] != '\0'))
                        printf("%s%.*s", i ? " " : "", (int)n, name);
        }
        printf("';;\n");
        for (size_t i = 0; i < cli_n_commands; i++) {
                const char *name = cli_commands[i].name;
                size_t n = strcspn(name, " ");

                if (!name[n] || is_command(name, n) ||
                    (i > 0 && strncmp(cli_commands[i - 1].name, name, n + 1) == 0))
                        continue;
                printf("        '%.*s') words='", (int)n, name);
                put_group(name, n);
                printf("';;\n");
        }
}

/* How a command's first argument is completed, by what the table calls it. */
static const char *argument_source(const char *arguments)
{
        if (strncmp(arguments, "NAME", 4) == 0 || streq(arguments, "INSTANCE"))
                return "names=$(wherry ls --quiet 2>/dev/null)";
        if (streq(arguments, "IMAGE"))
                return "names=$(wherry image list --quiet 2>/dev/null)";
        if (strncmp(arguments, "HOST", 4) == 0)
                return "names=$(wherry host list --quiet 2>/dev/null)";
        if (strncmp(arguments, "FILE", 4) == 0)
                return "compopt -o default";
        if (streq(arguments, "SHELL"))
                return "names=bash";
        return ":";
}

static void put_options(const struct cli_option *options, size_t n)
{
        for (size_t i = 0; i < n; i++)
                printf(" %s", options[i].name);
}

void cli_completion(void)
{
        printf("# bash completion for wherry; made by \"wherry completion bash\"\n"
               "_wherry()\n{\n"
               "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command='' "
               "words='' names='' w\n"
               "    COMPREPLY=()\n"
               "    for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
               "        case $w in -*) break;; *) command=\"$command${command:+ }$w\";; esac\n"
               "        case $command in\n");
        for (size_t i = 0; i < cli_n_commands; i++)
                if (!is_group(cli_commands[i].name))
                        printf("            '%s') break;;\n", cli_commands[i].name);
        printf("        esac\n    done\n"
               "    case $prev in\n"
               "        --*file|--ssh-key|--user-data) compopt -o default; return;;\n"
               "        --host) mapfile -t COMPREPLY < <(compgen -W \"$(wherry host list --quiet "
               "2>/dev/null)\" -- "
               "\"$cur\"); return;;\n"
               "        --format) mapfile -t COMPREPLY < <(compgen -W 'raw qcow2 iso vmdk vdi vhd vhdx ova' "
               "-- \"$cur\"); return;;\n"
               "    esac\n"
               "    case $command in\n");
        put_words();
        for (size_t i = 0; i < cli_n_commands; i++) {
                const struct cli_command *c = &cli_commands[i];

                printf("        '%s') words='", c->name);
                put_options(cli_common_options, cli_n_common_options);
                put_options(c->options, c->n_options);
                if (is_group(c->name)) {
                        printf("'; [[ $cur == -* ]] || names='");
                        put_group(c->name, strlen(c->name));
                        printf("';;\n");
                } else
                        printf("'; [[ $cur == -* ]] || %s;;\n", argument_source(c->arguments));
        }
        printf("    esac\n"
               "    [[ $cur == -* || -z $names ]] && names=$words\n"
               "    [[ $cur != -* && $names == *--* ]] && return\n"
               "    mapfile -t COMPREPLY < <(compgen -W \"$names\" -- \"$cur\")\n"
               "}\n"
               "complete -F _wherry wherry\n");
}

int cmd_completion(struct cli *cli, struct err *err)
{
        if (!streq(cli->arguments[0], "bash"))
                return cli_usage(cli, err, "there is a completion for bash only, not for \"%s\"",
                                 cli->arguments[0]);
        cli_completion();
        return 0;
}
