/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/table.h"

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

static int print_places(const json_t *reply)
{
        static const char *const titles[] = {"PLACE", "FENCE", "VERDICT"};
        _cleanup_(table_freep) struct table *t = table_new(titles, ARRAY_SIZE(titles));
        const json_t *place;
        size_t i;
        int r = t ? 0 : -ENOMEM;

        json_array_foreach (json_object_get(reply, "places"), i, place) {
                if (r == 0)
                        r = table_add(t, json_get_str(place, "place", NULL));
                if (r == 0)
                        r = table_add(t, json_is_null(json_object_get(place, "ok")) ? NULL
                                         : json_get_bool(place, "ok", false)        ? "ok"
                                                                                    : "FAILED");
                if (r == 0)
                        r = table_add(t, json_get_str(place, "text", NULL));
        }
        if (r == 0)
                table_print(t, stdout);
        return r;
}

static void print_finding(const json_t *f)
{
        const json_t *host;
        size_t i;

        printf("\n%s: %s", json_get_str(f, "code", "?"), json_get_str(f, "text", ""));
        json_array_foreach (json_object_get(f, "hosts"), i, host)
                printf("%s%s", i ? ", " : " (on ", json_string_value(host));
        printf("%s\n  what to do: %s\n", i ? ")" : "", json_get_str(f, "advice", ""));
}

int cmd_store_check(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        const json_t *finding;
        size_t i;
        int r = cli_call(cli, "POST", NULL, &reply, err, "/v1/store/check");

        if (r < 0)
                return r;
        if (cli->json)
                cli_print(cli, reply);
        else {
                if (print_places(reply) < 0)
                        return err_set(err, -ENOMEM, "out of memory");
                json_array_foreach (json_object_get(reply, "findings"), i, finding)
                        print_finding(finding);
        }
        if (json_get_bool(reply, "ok", false))
                return 0;
        return err_set(err, -EIO, "the store %s is not set up as it should be",
                       json_get_str(reply, "url", ""));
}
