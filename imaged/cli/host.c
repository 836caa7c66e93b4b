/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/human.h"
#include "imaged/cli/table.h"

int host_list(struct cli *cli, json_t **ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        json_t *hosts;
        int r = cli_call(cli, "GET", NULL, &reply, err, "/v1/hosts");

        if (r < 0)
                return r;
        hosts = json_object_get(reply, "hosts");
        if (!json_is_array(hosts))
                return err_set(err, -EBADMSG, "%s/v1/hosts: the answer has no list of hosts", cli->url);
        hosts = cli_sorted(hosts, "number");
        if (!hosts)
                return err_set(err, -ENOMEM, "out of memory");
        *ret = hosts;
        return 0;
}

int host_find(const json_t *hosts, const char *name_or_number, const json_t **ret, struct err *err)
{
        char number[24], known[300] = "";
        const json_t *host;
        size_t i;

        json_array_foreach (hosts, i, host) {
                size_t used = strlen(known);

                snprintf(number, sizeof(number), "%lld", (long long)json_get_int(host, "number", 0));
                if (streq(json_get_str(host, "name", NULL), name_or_number) ||
                    streq(number, name_or_number)) {
                        *ret = host;
                        return 0;
                }
                snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
                         json_get_str(host, "name", number));
        }
        if (!known[0])
                return err_set(err, -ENOENT,
                               "there is no host \"%s\": there are none yet; start hostd on one",
                               name_or_number);
        return err_set(err, -ENOENT, "there is no host \"%s\"; there are: %s", name_or_number, known);
}

const char *host_label(const json_t *hosts, int64_t number, char *buf, size_t len)
{
        const json_t *host;
        size_t i;

        if (number == 0)
                return "-";
        json_array_foreach (hosts, i, host) {
                if (json_get_int(host, "number", 0) == number && json_get_str(host, "name", NULL))
                        return json_get_str(host, "name", NULL);
        }
        snprintf(buf, len, "%lld", (long long)number);
        return buf;
}

/* What counts for a person: a host that is up by its record but whose heartbeat stands still is silent. */
static const char *host_state(const json_t *host)
{
        const char *state = json_get_str(host, "state", "?");

        if (streq(state, "up") && !json_get_bool(host, "alive", true))
                return "silent";
        if (!streq(state, "up"))
                return state;
        if (json_get_bool(host, "uplink_dead", false))
                return "uplink dead";
        if (json_get_str(host, "cannot_start", "")[0])
                return "up, starts nothing";
        if (json_get_bool(host, "drained", false))
                return json_get_bool(host, "maintenance", false) ? "drained, maintenance" : "drained";
        return json_get_bool(host, "maintenance", false) ? "maintenance" : state;
}

static int add_row(struct table *t, const json_t *host)
{
        uint64_t memory = (uint64_t)json_get_int(host, "memory", 0),
                 used = (uint64_t)json_get_int(host, "memory_used", 0);
        char a[24], b[24];
        int r = table_addf(t, "%lld", (long long)json_get_int(host, "number", 0));

        if (r == 0)
                r = table_add(t, json_get_str(host, "name", NULL));
        if (r == 0)
                r = table_add(t, host_state(host));
        if (r == 0)
                r = table_add(t, json_get_str(host, "address", NULL));
        if (r == 0)
                r = table_addf(t, "%lld", (long long)json_get_int(host, "instances", 0));
        if (r == 0)
                r = table_addf(t, "%lld / %lld", (long long)json_get_int(host, "cpus_used", 0),
                               (long long)json_get_int(host, "cpus", 0));
        if (r == 0)
                r = table_addf(t, "%s / %s", size_format(used, a, sizeof(a)),
                               size_format(memory, b, sizeof(b)));
        return r;
}

/* What a living host cannot see says its record: a line for each, for whom it may matter most. */
static void print_blind(const json_t *hosts)
{
        const json_t *host, *item;
        size_t i, k;

        json_array_foreach (hosts, i, host) {
                const char *name = json_get_str(host, "name", "?");

                if (!streq(json_get_str(host, "state", "?"), "up") || !json_get_bool(host, "alive", true))
                        continue;
                json_array_foreach (json_object_get(host, "blind"), k, item) {
                        int64_t other = json_get_int(item, "host", 0);
                        char age[HUMAN_LEN], label[24];

                        human_age(json_get_str(item, "since", NULL), time(NULL), age);
                        if (other)
                                printf("%s cannot tell whether %s lives, last seen %s: it would not take it "
                                       "over\n",
                                       name, host_label(hosts, other, label, sizeof(label)), age);
                        else
                                printf("%s cannot list the hosts, last done %s: it watches those it knew "
                                       "then\n",
                                       name, age);
                }
        }
}

int cmd_host_list(struct cli *cli, struct err *err)
{
        static const char *const titles[] = {"NUMBER",     "NAME",  "STATE",  "ADDRESS",
                                             ">INSTANCES", ">CPUS", ">MEMORY"};
        _cleanup_(table_freep) struct table *t = table_new(titles, ARRAY_SIZE(titles));
        _cleanup_(json_decrefpp) json_t *hosts = NULL, *drill = NULL;
        bool plain = !cli->json && !cli_given(cli, "--quiet");
        const json_t *host;
        size_t i;
        int r;

        if (plain) /* first, since it looks at all records anew; the list may lag by a second */
                cli_call(cli, "GET", NULL, &drill, NULL, "/v1/drill");
        r = host_list(cli, &hosts, err);
        if (r < 0)
                return r;
        if (cli->json) {
                _cleanup_(json_decrefpp) json_t *j = json_pack("{s:O}", "hosts", hosts);

                cli_print(cli, j);
                return 0;
        }
        if (!plain) {
                json_array_foreach (hosts, i, host)
                        puts(json_get_str(host, "name", ""));
                return 0;
        }
        if (json_array_size(hosts) == 0) {
                puts("no hosts yet; a host is listed once its hostd has started");
                return 0;
        }
        r = t ? 0 : -ENOMEM;
        json_array_foreach (hosts, i, host) {
                if (r == 0)
                        r = add_row(t, host);
        }
        if (r < 0)
                return err_set(err, r, "out of memory");
        table_print(t, stdout);
        print_blind(hosts);
        host_print_spare(drill);
        return 0;
}

static int add_pair(struct table *t, const char *key, const char *value)
{
        int r = table_addf(t, "%s:", key);

        return r < 0 ? r : table_add(t, value);
}

/* What decides about its failover: whether anybody takes it over, and whether it may take others over. */
static int show_failover(struct table *t, const json_t *host)
{
        const json_t *fence = json_object_get(host, "fence");
        char text[600], age[HUMAN_LEN];
        int r = add_pair(t, "maintenance",
                         json_get_bool(host, "maintenance", false)
                             ? "on: nobody takes it over"
                             : "off: the others take it over when it dies");

        if (r < 0 || !json_is_object(fence))
                return r;
        snprintf(text, sizeof(text), "%s, tested %s",
                 json_get_bool(fence, "ok", false) ? "holds" : json_get_str(fence, "text", "does not hold"),
                 human_age(json_get_str(fence, "at", NULL), time(NULL), age));
        return add_pair(t, "fence", text);
}

static int show_rows(struct table *t, const json_t *host)
{
        const json_t *versions = json_object_get(host, "versions"), *value;
        char text[96], a[24], b[24];
        const char *key;
        int r;

        snprintf(text, sizeof(text), "%lld", (long long)json_get_int(host, "number", 0));
        r = add_pair(t, "number", text);
        if (r == 0)
                r = add_pair(t, "name", json_get_str(host, "name", NULL));
        if (r == 0)
                r = add_pair(t, "state", host_state(host));
        if (r == 0 && json_get_str(host, "cannot_start", "")[0])
                r = add_pair(t, "starts nothing", json_get_str(host, "cannot_start", NULL));
        if (r == 0)
                r = add_pair(t, "address", json_get_str(host, "address", NULL));
        if (r == 0)
                r = add_pair(t, "api", json_get_str(host, "api", NULL));
        snprintf(text, sizeof(text), "%lld, %lld in use, %s", (long long)json_get_int(host, "cpus", 0),
                 (long long)json_get_int(host, "cpus_used", 0),
                 json_get_str(host, "cpu_model", "model not known"));
        if (r == 0)
                r = add_pair(t, "cpus", text);
        snprintf(text, sizeof(text), "%s, %s in use",
                 size_format((uint64_t)json_get_int(host, "memory", 0), a, sizeof(a)),
                 size_format((uint64_t)json_get_int(host, "memory_used", 0), b, sizeof(b)));
        if (r == 0)
                r = add_pair(t, "memory", text);
        snprintf(text, sizeof(text), "%lld", (long long)json_get_int(host, "instances", 0));
        if (r == 0)
                r = add_pair(t, "instances", text);
        if (r == 0)
                r = show_failover(t, host);
        if (r == 0)
                r = add_pair(t, "accel", json_get_str(host, "accel", NULL));
        json_object_foreach ((json_t *)versions, key, value) {
                if (r == 0)
                        r = add_pair(t, key, json_string_value(value));
        }
        return r;
}

int cmd_host_show(struct cli *cli, struct err *err)
{
        static const char *const columns[] = {"", ""};
        _cleanup_(table_freep) struct table *t = table_new(columns, 2);
        _cleanup_(json_decrefpp) json_t *hosts = NULL;
        const json_t *host = NULL;
        int r = host_list(cli, &hosts, err);

        if (r == 0)
                r = host_find(hosts, cli->arguments[0], &host, err);
        if (r < 0)
                return r;
        if (cli->json) {
                cli_print(cli, host);
                return 0;
        }
        if (!t || show_rows(t, host) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        table_print_plain(t, stdout);
        return 0;
}
