/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/human.h"
#include "imaged/cli/interrupt.h"

#define WAIT_SECONDS 25 /* the server waits up to 30 */
#define PATIENCE_SECONDS 60

/* Texts come from hosts and guests' names: nothing in them may steer the terminal. */
static void put_text(const char *text)
{
        for (; *text; text++)
                putchar((unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
}

static void put_column(const char *text, size_t width)
{
        size_t n = text ? strlen(text) : 0;

        put_text(text ? text : "-");
        for (n = n ? n : 1; n < width; n++)
                putchar(' ');
        fputs("  ", stdout);
}

/* "21:04:05  h1  web1  failover: what happened" in columns: who says it, about which instance or image,
 * local time; the day where it is not today. */
static void print_event(const json_t *event)
{
        time_t at = human_stamp_parse(json_get_str(event, "at", NULL)), now = time(NULL);
        const char *name = json_get_str(event, "name", NULL), *text = json_get_str(event, "text", "");
        struct tm tm, today;
        char when[32] = "?";

        localtime_r(&now, &today);
        if (at >= 0 && localtime_r(&at, &tm))
                strftime(when, sizeof(when),
                         tm.tm_yday == today.tm_yday && tm.tm_year == today.tm_year ? "%H:%M:%S"
                                                                                    : "%Y-%m-%d %H:%M:%S",
                         &tm);
        printf("%s  ", when);
        put_column(json_get_str(event, "host", NULL), 8);
        put_column(name, 14);
        put_text(json_get_str(event, "kind", ""));
        if (text[0]) {
                fputs(": ", stdout);
                put_text(text);
        }
        putchar('\n');
}

static void print_events(struct cli *cli, const json_t *reply, bool follow)
{
        const json_t *event;
        size_t i;

        if (cli->json && !follow) {
                cli_print(cli, reply);
                return;
        }
        json_array_foreach (json_object_get(reply, "events"), i, event) {
                if (cli->json)
                        cli_print_line(cli, event);
                else
                        print_event(event);
        }
        fflush(stdout);
}

static int get_events(struct cli *cli, const char *cursor, json_t **ret, struct err *err)
{
        _cleanup_(freep) char *escaped = cursor ? http_escape(cursor) : NULL;
        int r;

        if (cursor && !escaped)
                return err_set(err, -ENOMEM, "out of memory");
        if (escaped)
                r = cli_call(cli, "GET", NULL, ret, err, "/v1/events?after=%s&wait=%d", escaped,
                             WAIT_SECONDS);
        else
                r = cli_call(cli, "GET", NULL, ret, err, "/v1/events");
        if (r == 0 && !json_is_array(json_object_get(*ret, "events"))) {
                json_decref(take(*ret));
                return err_set(err, -EBADMSG, "%s/v1/events: the answer has no list of events", cli->url);
        }
        return r;
}

/* Past a restart of the server, or the change to another one behind the same address. */
static int get_events_patiently(struct cli *cli, const char *cursor, json_t **ret, struct err *err)
{
        struct pacer pacer = pacer_start(PATIENCE_SECONDS);
        int r;

        do
                r = get_events(cli, cursor, ret, err);
        while (http_away(r) && pacer_wait(&pacer, NULL) == 0);
        return r;
}

/* Until Ctrl-C, which is how it is meant to end, or until nobody reads what we print. */
static int follow(struct cli *cli, json_t *reply, struct err *err)
{
        _cleanup_(freep) char *cursor = NULL;
        int r = 0;

        while (r == 0 && !interrupted()) {
                const char *next = json_get_str(reply, "cursor", NULL);

                if (!next)
                        return err_set(err, -EBADMSG, "%s/v1/events: the answer has no cursor to go on from",
                                       cli->url);
                free(cursor);
                cursor = strdup(next);
                if (!cursor)
                        return err_set(err, -ENOMEM, "out of memory");
                json_decref(reply);
                reply = NULL;
                r = get_events_patiently(cli, cursor, &reply, err);
                if (r == 0)
                        print_events(cli, reply, true);
                if (ferror(stdout))
                        break;
        }
        json_decref(reply);
        return interrupted() ? 0 : r;
}

int cmd_events(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        bool go_on = cli_given(cli, "--follow");
        int r;

        if (go_on)
                interrupt_catch(cli->http);
        r = get_events(cli, NULL, &reply, err);
        if (r < 0)
                return r;
        print_events(cli, reply, go_on);
        return go_on ? follow(cli, take(reply), err) : 0;
}
