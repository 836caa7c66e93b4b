/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/host.h"
#include "imaged/cli/table.h"

/* host drill, host maintenance, and what else is said about the loss of a host. */

static int add_row(struct table *t, const json_t *i)
{
        char size[24];
        int r = table_add(t, json_get_str(i, "name", NULL));

        if (r == 0)
                r = table_addf(t, "%lld", (long long)json_get_int(i, "priority", 0));
        if (r == 0)
                r = table_addf(t, "%lld", (long long)json_get_int(i, "cpus", 0));
        if (r == 0)
                r = table_add(t, size_format((uint64_t)json_get_int(i, "memory", 0), size, sizeof(size)));
        if (r == 0)
                r = table_add(t, json_get_str(i, "group", NULL));
        if (r == 0 && json_get_str(i, "reason", NULL))
                r = table_addf(t, "nowhere: %s", json_get_str(i, "reason", ""));
        else if (r == 0)
                r = table_add(t, json_get_str(i, "to_name", NULL));
        return r;
}

static int drill_print(const json_t *drill, size_t unplaced)
{
        static const char *const titles[] = {"NAME", ">PRIORITY", ">CPUS", ">MEMORY", "GROUP", "GOES TO"};
        _cleanup_(table_freep) struct table *t = table_new(titles, ARRAY_SIZE(titles));
        const json_t *instances = json_object_get(drill, "instances"), *i;
        const char *host = json_get_str(drill, "name", "?"), *why = json_get_str(drill, "disarmed", NULL);
        size_t at, n = json_array_size(instances);
        int r = t ? 0 : -ENOMEM;

        if (n == 0) {
                printf("%s runs no instance: its death would move none\n", host);
                return 0;
        }
        if (why)
                printf("note: %s; this is where they would go otherwise\n", why);
        if (unplaced)
                printf("If %s died now, %zu of its %zu instance%s would find no room:\n", host, unplaced, n,
                       n == 1 ? "" : "s");
        else if (n == 1)
                printf("If %s died now, its instance would be started again elsewhere:\n", host);
        else
                printf("If %s died now, all its %zu instances would be started again, in this order:\n",
                       host, n);
        json_array_foreach (instances, at, i) {
                if (r == 0)
                        r = add_row(t, i);
        }
        if (r == 0)
                table_print(t, stdout);
        return r;
}

int cmd_host_drill(struct cli *cli, struct err *err)
{
        _cleanup_(freep) char *escaped = http_escape(cli->arguments[0]);
        _cleanup_(json_decrefpp) json_t *drill = NULL;
        const json_t *i;
        size_t at, unplaced = 0;
        int r;

        if (!escaped)
                return err_set(err, -ENOMEM, "out of memory");
        r = cli_call(cli, "GET", NULL, &drill, err, "/v1/hosts/%s/drill", escaped);
        if (r < 0)
                return r;
        json_array_foreach (json_object_get(drill, "instances"), at, i)
                unplaced += json_get_str(i, "reason", NULL) != NULL;
        if (cli->json)
                cli_print(cli, drill);
        else if (drill_print(drill, unplaced) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        if (unplaced == 0)
                return 0;
        return err_set(err, -ENOSPC,
                       "%zu instance%s of %s would not be restarted; add a host, or stop or move what the "
                       "others can spare",
                       unplaced, unplaced == 1 ? "" : "s", json_get_str(drill, "name", "?"));
}

int cmd_host_maintenance(struct cli *cli, struct err *err)
{
        const char *word = cli->arguments[1];
        _cleanup_(freep) char *escaped = http_escape(cli->arguments[0]);
        _cleanup_(json_decrefpp) json_t *body = NULL, *record = NULL;
        bool on = streq(word, "on");
        int r;

        if (!on && !streq(word, "off"))
                return cli_usage(cli, err, "maintenance \"%s\": on and off are possible", word);
        body = json_pack("{s:b}", "on", on);
        if (!escaped || !body)
                return err_set(err, -ENOMEM, "out of memory");
        r = cli_call(cli, "POST", body, &record, err, "/v1/hosts/%s/maintenance", escaped);
        if (r < 0)
                return r;
        if (cli->json)
                cli_print(cli, record);
        else if (on)
                printf(
                    "%s is in maintenance: if it goes away, its instances wait for it and are not started "
                    "elsewhere\n",
                    json_get_str(record, "name", "?"));
        else
                printf("%s is out of maintenance: if it dies, its instances are started elsewhere\n",
                       json_get_str(record, "name", "?"));
        return 0;
}

/* --- N+1 --- */

void host_print_spare(struct cli *cli)
{
        _cleanup_(json_decrefpp) json_t *drill = NULL;
        const json_t *losses, *text;
        size_t i;

        if (cli_call(cli, "GET", NULL, &drill, NULL, "/v1/drill") < 0)
                return; /* the list is what was asked for */
        losses = json_object_get(drill, "losses");
        if (json_array_size(json_object_get(drill, "hosts")) == 0)
                return;
        if (json_array_size(losses) == 0)
                puts("\nN+1 holds: whichever host dies, the others have room for its instances");
        else
                puts("\nN+1 does not hold: the loss of one host could not be absorbed");
        json_array_foreach (losses, i, text)
                printf("  %s\n", json_string_value(text));
}

void host_warn_losses(struct cli *cli, json_t *document)
{
        _cleanup_(json_decrefpp) json_t *drill = NULL;
        json_t *warnings = json_array();
        const json_t *losses, *text;
        size_t i;

        cli_call(cli, "GET", NULL, &drill, NULL, "/v1/drill?after=%s", json_get_str(document, "id", ""));
        losses = json_object_get(drill, "losses");
        json_array_foreach (losses, i, text)
                json_array_append_new(
                    warnings,
                    json_sprintf("the loss of one host could not be absorbed: %s", json_string_value(text)));
        if (!cli->json && json_array_size(losses) > 0)
                fprintf(stderr,
                        "wherry: warning: the loss of one host could no longer be absorbed; \"wherry host "
                        "drill HOST\" tells more\n");
        json_array_foreach (losses, i, text) {
                if (!cli->json)
                        fprintf(stderr, "wherry: warning: %s\n", json_string_value(text));
        }
        json_object_set_new(document, "warnings", warnings);
}
