/* SPDX-License-Identifier: Apache-2.0 */
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
#include "imaged/cli/instance.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/migrate.h"
#include "imaged/cli/progress.h"

int move_reached(const json_t *rec, int64_t serial, struct err *err)
{
        const json_t *status = json_object_get(rec, "status"), *move = json_object_get(status, "move");
        const char *state = json_get_str(move, "state", ""), *why = json_get_str(move, "error", NULL);
        int64_t seen = json_get_int(move, "serial", -1);

        if (seen > serial)
                return err_set(err, -ESTALE, "another move was asked for meanwhile");
        if (seen < serial)
                return 0;
        if (streq(state, "failed") || streq(state, "refused") || streq(state, "cancelled"))
                return err_set(err, -EIO, "%s: %s", state, why && why[0] ? why : "no reason is recorded");
        return streq(state, "done") || streq(state, "completed");
}

/* Says once that the move waits for its turn. */
static void tell_waiting(struct cli *cli, const json_t *rec, int64_t serial, bool *told)
{
        const json_t *waiting = json_path(rec, "status.waiting");

        if (*told || cli->json || !json_is_object(waiting) || json_get_int(waiting, "serial", 0) != serial)
                return;
        *told = true;
        fprintf(stderr, "%s waits for its turn: %s\n", json_get_str(rec, "name", "?"),
                json_get_str(waiting, "why", "?"));
}

/* One look: the bar while a migration runs at the source, and whether the record says that it has ended. */
static int look(struct cli *cli, const char *path, int64_t serial, struct progress *progress, bool *told,
                json_t **ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *rec = NULL, *job = NULL;
        int r = cli_call(cli, "GET", NULL, &rec, err, "%s", path);

        if (r < 0)
                return r;
        r = move_reached(rec, serial, err);
        if (r == 0)
                tell_waiting(cli, rec, serial, told);
        if (r > 0)
                *ret = take(rec);
        if (r != 0 || !progress_due(progress))
                return r;
        /* Before its start and after its end there is none: 404. */
        if (cli_call(cli, "GET", NULL, &job, NULL, "%s/migration", path) == 0)
                progress_draw(
                    progress, (uint64_t)json_get_int(job, "transferred", 0),
                    (uint64_t)(json_get_int(job, "transferred", 0) + json_get_int(job, "remaining", 0)));
        return 0;
}

static int watch(struct cli *cli, const char *path, int64_t serial, json_t **ret, struct err *err)
{
        _cleanup_(freep) char *what = str_printf("moving %s", cli->arguments[0]);
        struct progress progress;
        struct pacer pacer;
        int64_t seconds;
        bool told = false;
        int r = cli_number(cli, "--timeout", 1, 1000000, &seconds, err);

        if (r < 0)
                return r;
        pacer = pacer_start(seconds);
        interrupt_catch(cli->http);
        progress_begin(&progress, what ? what : "moving", cli->json);
        do {
                r = look(cli, path, serial, &progress, &told, ret, err);
                if (http_away(r))
                        r = 0; /* imaged may be started again while we watch */
                if (r == 0)
                        r = pacer_wait(&pacer, err);
                else if (r > 0)
                        break;
        } while (r == 0);
        progress_end(&progress);
        if (r == -ECANCELED || r == -ETIMEDOUT)
                err_set(err, r,
                        "the watching ends, the move goes on; \"wherry show %s\" tells how it stands",
                        cli->arguments[0]);
        interrupt_release();
        return r < 0 ? r : 0;
}

static void tell(struct cli *cli, const json_t *asked, const json_t *rec)
{
        const json_t *move = json_path(rec, "status.move");
        _cleanup_(json_decrefpp) json_t *hosts = NULL;
        char from[24], to[24], total[HUMAN_LEN], downtime[HUMAN_LEN];

        host_list(cli, &hosts, NULL); /* without the names, the numbers say it too */
        printf("%s moved from %s to %s: %s in total, %s downtime\n", json_get_str(rec, "name", "?"),
               host_label(hosts, json_get_int(asked, "from", 0), from, sizeof(from)),
               host_label(hosts, json_get_int(asked, "to", 0), to, sizeof(to)),
               human_duration(json_get_int(move, "total_ms", -1), total),
               human_duration(json_get_int(move, "downtime_ms", -1), downtime));
}

/* A number goes as a number, anything else as a name. */
static json_t *request_body(const char *host)
{
        char *end = NULL;
        long number = host ? strtol(host, &end, 10) : 0;

        if (!host)
                return json_object();
        if (end != host && *end == '\0')
                return json_pack("{s:I}", "host", (json_int_t)number);
        return json_pack("{s:s}", "host", host);
}

int cmd_migrate(struct cli *cli, struct err *err)
{
        const char *name = cli->arguments[0], *host = cli->arguments[1];
        _cleanup_(json_decrefpp) json_t *body = request_body(host), *asked = NULL, *rec = NULL;
        _cleanup_(freep) char *escaped = http_escape(name), *path = NULL;
        char label[24];
        int r;

        path = escaped ? str_printf("/v1/instances/%s", escaped) : NULL;
        if (!path || !body)
                return err_set(err, -ENOMEM, "out of memory");
        r = cli_call(cli, "POST", body, &asked, err, "%s/migrate", path);
        if (http_away(r))
                return err_wrap(err, r, "whether %s moves is not known, \"wherry show %s\" tells", name,
                                name);
        if (r < 0)
                return err_wrap(err, r, "%s is not moved", name);
        if (cli_given(cli, "--no-wait")) {
                if (cli->json)
                        cli_print(cli, asked);
                else
                        printf("%s: the move to host %s is asked for\n", name,
                               host_label(NULL, json_get_int(asked, "to", 0), label, sizeof(label)));
                return 0;
        }
        r = watch(cli, path, json_get_int(asked, "serial", 0), &rec, err);
        if (r < 0)
                return err_wrap(err, r, "%s", name);
        if (cli->json)
                cli_print(cli, rec);
        else
                tell(cli, asked, rec);
        return 0;
}
