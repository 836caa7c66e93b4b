/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/table.h"

/* Longer than the 30 s that a call for events may wait. */
#define CALL_TIMEOUT_MS 60000

static int run_command(struct cli *cli, int argc, char **argv, struct err *err)
{
        int r = cli_parse(cli, argc, argv, err);

        if (r < 0)
                return r;
        if (!cli->command->offline) {
                r = cli_settings(cli, err);
                if (r == 0)
                        r = http_client_new(cli->url, cli->token, CALL_TIMEOUT_MS, &cli->http, err);
                if (r < 0)
                        return r;
        }
        return cli->command->handler(cli, err);
}

static void tell(struct cli *cli, const struct err *err)
{
        _cleanup_(freep) char *text = text_printable(err_text(err)); /* it may quote other people's names */

        fprintf(stderr, "wherry: %s\n", text ? text : "out of memory");
        if (cli->json && !cli->told) {
                json_t *j = json_pack("{s:{s:i,s:o}}", "error", "code", -err->code, "message",
                                      cli_text(err_text(err)));

                if (j)
                        cli_print(cli, j);
                json_decref(j);
        }
}

int main(int argc, char **argv)
{
        struct cli cli = {0};
        struct err err = {0};
        int r = run_command(&cli, argc, argv, &err);

        if (r < 0) {
                if (err.code == 0)
                        err_set(&err, r, "%s: %s", cli.command ? cli.command->name : "wherry",
                                err_text(&err));
                tell(&cli, &err);
        }
        if (fflush(stdout) != 0 || ferror(stdout)) {
                perror("wherry: standard output");
                r = -EIO;
        }
        cli_done(&cli);
        if (r < 0)
                interrupt_end();
        return r >= 0 ? 0 : cli.usage || cli.refused ? 2 : 1;
}
