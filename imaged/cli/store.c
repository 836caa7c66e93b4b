/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"

int cmd_store(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *store = NULL;
        uint64_t total, left;
        char a[24], b[24];
        int r = cli_call(cli, "GET", NULL, &store, err, "/v1/store");

        if (r < 0)
                return r;
        if (cli->json) {
                cli_print(cli, store);
                return 0;
        }
        total = (uint64_t)json_get_int(store, "total", 0);
        left = (uint64_t)json_get_int(store, "free", 0);
        printf("%s (%s): %s free of %s\n", json_get_str(store, "url", "?"),
               json_get_str(store, "engine", "?"), size_format(left, a, sizeof(a)),
               size_format(total, b, sizeof(b)));
        return 0;
}
