/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/failovers.h"
#include "imaged/cli/host.h"
#include "imaged/cli/human.h"
#include "imaged/cli/image.h"
#include "imaged/cli/instance.h"
#include "imaged/cli/table.h"

/* ls and show. */

/* Its host does not answer, so nobody knows what is so now. */
static bool unknown(const json_t *status, const json_t *hosts)
{
        static const char *const ended[] = {"pending", "stopped", "deleted", "failed"};
        int64_t number = json_get_int(status, "host", 0);
        const json_t *host;
        size_t i;

        for (i = 0; i < ARRAY_SIZE(ended); i++)
                if (streq(json_get_str(status, "state", "pending"), ended[i]))
                        return false;
        json_array_foreach (hosts, i, host)
                if (json_get_int(host, "number", 0) == number)
                        return !json_get_bool(host, "alive", true);
        return false;
}

static int add_row(struct table *t, const json_t *rec, const json_t *hosts, time_t now)
{
        const json_t *status = json_object_get(rec, "status");
        const char *state = json_get_str(status, "state", "pending"),
                   *wanted = json_get_str(rec, "wanted", "");
        const char *reason = json_get_str(status, "reason", "");
        bool going = streq(wanted, "deleted");
        char buf[HUMAN_LEN];
        int r = table_add(t, json_get_str(rec, "name", NULL));

        if (r == 0 && !going && unknown(status, hosts))
                r = table_addf(t, "unknown (was %s)", state);
        else if (r == 0 && !going && streq(state, "paused") && reason[0])
                r = table_addf(t, "paused: %s", reason);
        else if (r == 0)
                r = table_add(t, going ? "removing" : state);
        if (r == 0)
                r = table_add(t, host_label(hosts, json_get_int(status, "host", 0), buf, sizeof(buf)));
        if (r == 0)
                r = table_add(t, json_string_value(json_path(rec, "network.address")));
        if (r == 0)
                r = table_addf(t, "%lld", (long long)json_get_int(rec, "cpus", 0));
        if (r == 0)
                r = table_add(t, size_format((uint64_t)json_get_int(rec, "memory", 0), buf, sizeof(buf)));
        if (r == 0)
                r = table_add(t, size_format((uint64_t)json_get_int(rec, "disk", 0), buf, sizeof(buf)));
        if (r == 0)
                r = table_add(t, human_age(json_get_str(rec, "created", NULL), now, buf));
        return r;
}

static int print_table(struct cli *cli, const json_t *instances)
{
        static const char *const titles[] = {"NAME",  "STATE",   "HOST",  "ADDRESS",
                                             ">CPUS", ">MEMORY", ">DISK", "CREATED"};
        _cleanup_(table_freep) struct table *t = table_new(titles, ARRAY_SIZE(titles));
        _cleanup_(json_decrefpp) json_t *hosts = NULL;
        time_t now = time(NULL);
        const json_t *rec;
        size_t i;
        int r = t ? 0 : -ENOMEM;

        host_list(cli, &hosts, NULL); /* without the names, the numbers say it too */
        json_array_foreach (instances, i, rec) {
                if (r == 0)
                        r = add_row(t, rec, hosts, now);
        }
        if (r == 0)
                table_print(t, stdout);
        return r;
}

int cmd_ls(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL, *instances = NULL, *doc = NULL;
        const json_t *rec;
        size_t i;
        int r = cli_call(cli, "GET", NULL, &reply, err, "/v1/instances");

        if (r < 0)
                return r;
        if (!json_is_array(json_object_get(reply, "instances")))
                return err_set(err, -EBADMSG, "%s/v1/instances: the answer has no list of instances",
                               cli->url);
        instances = cli_sorted(json_object_get(reply, "instances"), "name");
        if (!instances)
                return err_set(err, -ENOMEM, "out of memory");
        if (cli->json) {
                doc = json_pack("{s:O}", "instances", instances);
                cli_print(cli, doc);
        } else if (cli_given(cli, "--quiet")) {
                json_array_foreach (instances, i, rec)
                        puts(json_get_str(rec, "name", ""));
        } else if (json_array_size(instances) == 0)
                puts("no instances yet; \"wherry run IMAGE --name NAME\" makes one");
        else if (print_table(cli, instances) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        return 0;
}

static int pair(int r, struct table *t, const char *key, const char *value)
{
        if (r == 0 && value && value[0])
                r = table_addf(t, "%s:", key);
        if (r == 0 && value && value[0])
                r = table_add(t, value);
        return r;
}

static int pair_size(int r, struct table *t, const char *key, int64_t bytes)
{
        char size[24], text[64];

        snprintf(text, sizeof(text), "%s (%lld bytes)", size_format((uint64_t)bytes, size, sizeof(size)),
                 (long long)bytes);
        return pair(r, t, key, text);
}

/* The image's name beside its id; the id alone where the image cannot be asked for. */
static int pair_image(int r, struct cli *cli, struct table *t, const json_t *rec, const char *key)
{
        const char *id = json_get_str(rec, key, NULL);
        _cleanup_(json_decrefpp) json_t *image = NULL;
        _cleanup_(freep) char *text = NULL;

        if (!id)
                return r;
        if (uuid_valid(id) && image_find(cli, id, &image, NULL) == 0)
                text = str_printf("%s (%s)", json_get_str(image, "name", "?"), id);
        return pair(r, t, key, text ? text : id);
}

static int pair_last_move(int r, struct table *t, const json_t *status)
{
        const json_t *move = json_object_get(status, "move");
        char total[HUMAN_LEN], downtime[HUMAN_LEN], text[160];

        if (!json_is_object(move))
                return r;
        if (json_get_str(move, "error", NULL) && json_get_str(move, "error", "")[0])
                snprintf(text, sizeof(text), "%s: %s", json_get_str(move, "state", "?"),
                         json_get_str(move, "error", ""));
        else
                snprintf(text, sizeof(text), "%s, %s in total, %s downtime",
                         json_get_str(move, "state", "?"),
                         human_duration(json_get_int(move, "total_ms", -1), total),
                         human_duration(json_get_int(move, "downtime_ms", -1), downtime));
        return pair(r, t, "last move", text);
}

static int pair_waiting(int r, struct table *t, const json_t *status)
{
        const json_t *waiting = json_object_get(status, "waiting");
        _cleanup_(freep) char *text = NULL;

        if (!json_is_object(waiting))
                return r;
        text = str_printf("waits for its turn: %s", json_get_str(waiting, "why", "?"));
        return text ? pair(r, t, "next move", text) : -ENOMEM;
}

static int pair_receipts(int r, struct table *t, const json_t *rec, const json_t *hosts, time_t now)
{
        const json_t *receipts = json_object_get(rec, "receipts"), *receipt;
        char age[HUMAN_LEN], from[24], to[24];
        size_t i;

        json_array_foreach (receipts, i, receipt) {
                _cleanup_(freep) char *text = str_printf(
                    "%s: %s to %s, epoch %lld", human_age(json_get_str(receipt, "at", NULL), now, age),
                    host_label(hosts, json_get_int(receipt, "from", 0), from, sizeof(from)),
                    host_label(hosts, json_get_int(receipt, "to", 0), to, sizeof(to)),
                    (long long)json_get_int(receipt, "epoch", 0));

                r = text ? pair(r, t, "failover", text) : -ENOMEM;
        }
        return r;
}

/* "running, since 3 minutes ago", and what its host cannot say any more. */
static int pair_state(int r, struct table *t, const json_t *status, const json_t *hosts, time_t now)
{
        const char *state = json_get_str(status, "state", "pending");
        int64_t tries = json_get_int(status, "tries", 0);
        char text[160], buf[HUMAN_LEN];

        snprintf(text, sizeof(text), "%s%s, since %s",
                 unknown(status, hosts) ? "unknown: its host does not answer; it said " : "", state,
                 human_age(json_get_str(status, "since", NULL), now, buf));
        r = pair(r, t, "state", text);
        r = pair(r, t, "reason", json_get_str(status, "reason", NULL));
        if (tries == 0)
                return r;
        snprintf(text, sizeof(text), "start %lld %s", (long long)tries,
                 human_until(json_get_str(status, "next", NULL), now, buf));
        return pair(r, t, "next try", text);
}

static int show_rows(struct cli *cli, struct table *t, const json_t *rec, const json_t *hosts)
{
        const json_t *status = json_object_get(rec, "status");
        char text[64], buf[HUMAN_LEN];
        time_t now = time(NULL);
        int r;

        r = pair(0, t, "name", json_get_str(rec, "name", NULL));
        r = pair(r, t, "id", json_get_str(rec, "id", NULL));
        r = pair_state(r, t, status, hosts, now);
        r = pair(r, t, "error", json_get_str(status, "error", NULL));
        r = pair(r, t, "wanted", json_get_str(rec, "wanted", NULL));
        r = pair(r, t, "host", host_label(hosts, json_get_int(status, "host", 0), buf, sizeof(buf)));
        r = pair(r, t, "address", json_string_value(json_path(rec, "network.address")));
        r = pair(r, t, "mac", json_string_value(json_path(rec, "network.mac")));
        r = pair_image(r, cli, t, rec, "image");
        r = pair_image(r, cli, t, rec, "iso");
        snprintf(text, sizeof(text), "%lld", (long long)json_get_int(rec, "cpus", 0));
        r = pair(r, t, "cpus", text);
        r = pair_size(r, t, "memory", json_get_int(rec, "memory", 0));
        r = pair_size(r, t, "disk", json_get_int(rec, "disk", 0));
        snprintf(text, sizeof(text), "%lld", (long long)json_get_int(rec, "priority", 0));
        r = pair(r, t, "priority", text);
        r = pair(r, t, "group", json_get_str(rec, "group", NULL));
        r = pair(r, t, "owner", json_get_str(rec, "owner", NULL));
        r = pair(r, t, "created", human_age(json_get_str(rec, "created", NULL), now, buf));
        r = pair_last_move(r, t, status);
        r = pair_waiting(r, t, status);
        return pair_receipts(r, t, rec, hosts, now);
}

int cmd_show(struct cli *cli, struct err *err)
{
        static const char *const columns[] = {"", ""};
        _cleanup_(table_freep) struct table *t = table_new(columns, 2);
        _cleanup_(json_decrefpp) json_t *rec = NULL, *hosts = NULL;
        int r = instance_get(cli, cli->arguments[0], &rec, err);

        if (r < 0)
                return r;
        if (cli->json && !cli_given(cli, "--history")) {
                cli_print(cli, rec);
                return 0;
        }
        host_list(cli, &hosts, NULL); /* without the names, the numbers say it too */
        if (cli_given(cli, "--history"))
                return history_print(cli, rec, hosts, err);
        if (!t || show_rows(cli, t, rec, hosts) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        table_print_plain(t, stdout);
        return 0;
}
