/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/failovers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/host.h"
#include "imaged/cli/human.h"
#include "imaged/cli/table.h"

const char *when_text(const char *stamp, char buf[WHEN_LEN])
{
        time_t at = human_stamp_parse(stamp);
        struct tm tm;

        if (at < 0 || !localtime_r(&at, &tm) || strftime(buf, WHEN_LEN, "%Y-%m-%d %H:%M:%S", &tm) == 0)
                snprintf(buf, WHEN_LEN, "-");
        return buf;
}

int since_parse(const char *text, time_t now, char ret[WHEN_LEN + 8], struct err *err)
{
        static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
                                            "%Y-%m-%d %H:%M", "%Y-%m-%d"};
        static const struct {
                char letter;
                long seconds;
        } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
        time_t at = human_stamp_parse(text);
        struct tm tm;
        char *end;
        long n;

        errno = 0;
        n = strtol(text, &end, 10);
        for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
                if (end != text && errno == 0 && n >= 0 && n < 1000000 && end[0] == units[i].letter &&
                    !end[1])
                        at = now - n * units[i].seconds;
        }
        if (!strchr(text, 'Z') && end[0] == '-') { /* a date and time of this place */
                at = -1;
                for (size_t i = 0; i < ARRAY_SIZE(forms) && at < 0; i++) {
                        const char *rest;

                        memset(&tm, 0, sizeof(tm));
                        tm.tm_isdst = -1;
                        rest = strptime(text, forms[i], &tm);
                        at = rest && !*rest ? mktime(&tm) : -1;
                }
        }
        if (at < 0 || !gmtime_r(&at, &tm) || strftime(ret, WHEN_LEN + 8, "%Y-%m-%dT%H:%M:%S.000Z", &tm) == 0)
                return err_set(err, -EINVAL,
                               "--since %s: write it like 30m, 2h, 7d, 2026-01-31 or 2026-01-31T12:00",
                               text);
        return 0;
}

static int64_t phase(const json_t *receipt, const char *name)
{
        return json_get_int(json_object_get(receipt, "phases"), name, 0);
}

static int64_t total_ms(const json_t *receipt)
{
        return phase(receipt, "detect_ms") + phase(receipt, "plan_ms") + phase(receipt, "claim_ms") +
               phase(receipt, "fence_ms") + phase(receipt, "start_ms");
}

static int seconds(int r, struct table *t, int64_t ms)
{
        return r < 0 ? r : table_addf(t, "%.2f s", (double)ms / 1000);
}

static int add_row(struct table *t, const json_t *f, const json_t *hosts)
{
        char when[WHEN_LEN], number[24];
        int r = table_add(t, when_text(json_get_str(f, "at", NULL), when));

        if (r == 0)
                r = table_add(t, json_get_str(f, "name", NULL));
        if (r == 0)
                r = table_add(t, host_label(hosts, json_get_int(f, "from", 0), number, sizeof(number)));
        if (r == 0)
                r = table_add(t, host_label(hosts, json_get_int(f, "to", 0), number, sizeof(number)));
        if (r == 0)
                r = table_addf(t, "%lld", (long long)json_get_int(f, "epoch", 0));
        r = seconds(r, t, phase(f, "detect_ms") + phase(f, "plan_ms"));
        r = seconds(r, t, phase(f, "claim_ms"));
        r = seconds(r, t, phase(f, "fence_ms"));
        r = seconds(r, t, phase(f, "start_ms"));
        return seconds(r, t, total_ms(f));
}

static int print_table(struct cli *cli, const json_t *list)
{
        static const char *const titles[] = {"WHEN",    "INSTANCE", "FROM",   "TO",     ">EPOCH",
                                             ">DETECT", ">CLAIM",   ">FENCE", ">START", ">TOTAL"};
        _cleanup_(table_freep) struct table *t = table_new(titles, ARRAY_SIZE(titles));
        _cleanup_(json_decrefpp) json_t *hosts = NULL;
        const json_t *f;
        size_t i;
        int r = t ? 0 : -ENOMEM;

        host_list(cli, &hosts, NULL); /* without the names, the numbers say it too */
        json_array_foreach (list, i, f) {
                if (r == 0)
                        r = add_row(t, f, hosts);
        }
        if (r == 0)
                table_print(t, stdout);
        return r;
}

static char *failovers_path(struct cli *cli, struct err *err)
{
        const char *since = cli_value(cli, "--since"), *host = cli_value(cli, "--host");
        _cleanup_(freep) char *escaped = host ? http_escape(host) : NULL;
        char begin[WHEN_LEN + 8] = "";

        if (since && since_parse(since, time(NULL), begin, err) < 0) {
                cli->usage = true;
                return NULL;
        }
        if (host && !escaped)
                return NULL;
        return str_printf("/v1/failovers%s%s%s%s", since ? "?since=" : "", begin,
                          !host   ? ""
                          : since ? "&host="
                                  : "?host=",
                          host ? escaped : "");
}

int cmd_failovers(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        _cleanup_(freep) char *path = failovers_path(cli, err);
        const json_t *list;
        int r;

        if (!path)
                return cli->usage ? -EINVAL : err_set(err, -ENOMEM, "out of memory");
        r = cli_call(cli, "GET", NULL, &reply, err, "%s", path);
        if (r < 0)
                return r;
        list = json_object_get(reply, "failovers");
        if (!json_is_array(list))
                return err_set(err, -EBADMSG, "%s%s: the answer has no list of failovers", cli->url, path);
        if (cli->json)
                cli_print(cli, reply);
        else if (json_array_size(list) == 0)
                puts(cli->n_values ? "no failover that fits" : "no instance was ever failed over");
        else if (print_table(cli, list) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        return 0;
}

/* --- the history of one instance --- */

/* Sentences: this is what is read when somebody asks whether it was right. */
static void print_receipt(const json_t *f, const json_t *hosts)
{
        char when[WHEN_LEN], since[WHEN_LEN], beat[WHEN_LEN], from[24], to[24], by[24];
        const json_t *tried = json_object_get(f, "tried"), *host;
        int64_t tries = json_get_int(f, "tries", 0);
        size_t i;

        printf("%s  failed over from %s to %s, epoch %lld\n", when_text(json_get_str(f, "at", NULL), when),
               host_label(hosts, json_get_int(f, "from", 0), from, sizeof(from)),
               host_label(hosts, json_get_int(f, "to", 0), to, sizeof(to)),
               (long long)json_get_int(f, "epoch", 0));
        printf("    last heartbeat  %.2f s before it was given up",
               (double)json_get_int(f, "last_beat_ms", 0) / 1000);
        if (json_get_str(f, "last_beat", "")[0])
                printf(", at %s", when_text(json_get_str(f, "last_beat", NULL), beat));
        printf("\n    decided by      %s\n", host_label(hosts, json_get_int(f, "by", 0), by, sizeof(by)));
        printf("    fence           %s", json_get_str(f, "fence", "?"));
        if (json_get_str(f, "fence_since", "")[0])
                printf(", in force since %s", when_text(json_get_str(f, "fence_since", NULL), since));
        putchar('\n');
        if (tries > 0) {
                printf("    tried before    %lld start%s failed", (long long)tries, tries == 1 ? "" : "s");
                json_array_foreach (tried, i, host)
                        printf("%s%s", i ? ", " : " on ",
                               host_label(hosts, json_integer_value(host), by, sizeof(by)));
                putchar('\n');
        }
        printf("    took            detect %.2f s, plan %.2f s, claim %.2f s, fence %.2f s, start %.2f s; "
               "%.2f s in all\n",
               (double)phase(f, "detect_ms") / 1000, (double)phase(f, "plan_ms") / 1000,
               (double)phase(f, "claim_ms") / 1000, (double)phase(f, "fence_ms") / 1000,
               (double)phase(f, "start_ms") / 1000, (double)total_ms(f) / 1000);
}

static void print_last_move(const json_t *instance)
{
        const json_t *move = json_path(instance, "status.move");
        const json_t *commit = json_object_get(move, "commit_ms");
        char total[HUMAN_LEN], downtime[HUMAN_LEN];

        if (!json_is_object(move))
                return;
        printf("last move: %s, %s in all", json_get_str(move, "state", "?"),
               human_duration(json_get_int(move, "total_ms", -1), total));
        if (!json_get_str(move, "error", "")[0]) /* a guest that did not move did not stand still for it */
                printf(", downtime %s", human_duration(json_get_int(move, "downtime_ms", -1), downtime));
        if (json_is_number(commit))
                printf(", of which the commit took %.1f ms", json_number_value(commit));
        if (json_get_str(move, "error", "")[0])
                printf(": %s", json_get_str(move, "error", ""));
        putchar('\n');
}

static int print_events(const json_t *events)
{
        static const char *const titles[] = {"WHEN", "SAID BY", "EVENT", "TEXT"};
        _cleanup_(table_freep) struct table *t = table_new(titles, ARRAY_SIZE(titles));
        const json_t *event;
        char when[WHEN_LEN];
        size_t i;
        int r = t ? 0 : -ENOMEM;

        json_array_foreach (events, i, event) {
                if (r == 0)
                        r = table_add(t, when_text(json_get_str(event, "at", NULL), when));
                if (r == 0)
                        r = table_add(t, json_get_str(event, "host", NULL));
                if (r == 0)
                        r = table_add(t, json_get_str(event, "kind", NULL));
                if (r == 0)
                        r = table_add(t, json_get_str(event, "text", NULL));
        }
        if (r == 0)
                table_print(t, stdout);
        return r;
}

int history_print(struct cli *cli, const json_t *instance, const json_t *hosts, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL, *doc = NULL;
        json_t *receipts = json_object_get(instance, "receipts"), *events;
        const json_t *f;
        size_t i;
        int r = cli_call(cli, "GET", NULL, &reply, err, "/v1/events?instance=%s",
                         json_get_str(instance, "id", ""));

        if (r < 0)
                return r;
        events = json_object_get(reply, "events");
        if (cli->json) {
                doc = json_pack("{s:O,s:O,s:O?,s:O?,s:O?}", "id", json_object_get(instance, "id"), "name",
                                json_object_get(instance, "name"), "failovers", receipts, "move",
                                json_path(instance, "status.move"), "events", events);
                if (!doc)
                        return err_set(err, -ENOMEM, "out of memory");
                cli_print(cli, doc);
                return 0;
        }
        if (json_array_size(receipts) == 0)
                printf("%s was never failed over\n", json_get_str(instance, "name", "?"));
        json_array_foreach (receipts, i, f)
                print_receipt(f, hosts);
        print_last_move(instance);
        if (json_array_size(events) > 0) {
                putchar('\n');
                if (print_events(events) < 0)
                        return err_set(err, -ENOMEM, "out of memory");
        }
        return 0;
}
