/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/http-client.h"
#include "common/util.h"
#include "imaged/cli/cli.h"

int cli_call(struct cli *cli, const char *method, const json_t *body, json_t **ret, struct err *err,
             const char *path, ...)
{
        _cleanup_(freep) char *text = NULL;
        long status = 0;
        va_list ap;
        int r;

        va_start(ap, path);
        r = vasprintf(&text, path, ap);
        va_end(ap);
        if (r < 0) {
                text = NULL;
                return err_set(err, -ENOMEM, "out of memory");
        }
        r = http_call(cli->http, method, text, body, ret, &status, err);
        if (r == -EPERM && status == 401)
                return err_set(err, r,
                               "%s does not accept %s; give the file that holds the server's token with "
                               "--token-file, or set WHERRY_TOKEN",
                               cli->url, cli->token ? "this token" : "calls without a token");
        if (r < 0 && status == 0 && r != -ECANCELED)
                return err_wrap(err, r, "cannot reach the server; --url or WHERRY_URL says where it is");
        return r;
}

void cli_print(struct cli *cli, const json_t *j)
{
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
        putchar('\n');
        cli->told = true;
}

void cli_print_line(struct cli *cli, const json_t *j)
{
        json_dumpf(j, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
        putchar('\n');
        fflush(stdout);
        cli->told = true;
}
