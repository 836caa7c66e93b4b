/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/instance.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/host.h"
#include "imaged/cli/interrupt.h"

int instance_get(struct cli *cli, const char *name, json_t **ret, struct err *err)
{
        _cleanup_(freep) char *escaped = http_escape(name);

        if (!escaped)
                return err_set(err, -ENOMEM, "out of memory");
        return cli_call(cli, "GET", NULL, ret, err, "/v1/instances/%s", escaped);
}

int instance_post(struct cli *cli, const char *name, const char *action, const json_t *body, json_t **ret,
                  struct err *err)
{
        _cleanup_(freep) char *escaped = http_escape(name);

        if (!escaped)
                return err_set(err, -ENOMEM, "out of memory");
        return cli_call(cli, "POST", body, ret, err, "/v1/instances/%s/%s", escaped, action);
}

static const char *state_of(const json_t *rec)
{
        return json_get_str(json_object_get(rec, "status"), "state", "pending");
}

int instance_reached(enum instance_goal goal, const json_t *rec, const json_t *before, struct err *err)
{
        const json_t *status = json_object_get(rec, "status");
        const char *state = state_of(rec), *name = json_get_str(rec, "name", "the instance");
        bool new_state = !streq(state, state_of(before)) ||
                         !streq(json_get_str(status, "since", NULL),
                                json_get_str(json_object_get(before, "status"), "since", NULL));

        if (!rec)
                return goal == GOAL_GONE ? 1 : err_set(err, -ENOENT, "it was removed meanwhile");
        /* A failure from before the request is what the request is to end. */
        if (streq(state, "failed") && new_state && goal != GOAL_GONE && goal != GOAL_STOPPED)
                return err_set(err, -EIO, "%s failed: %s", name,
                               json_get_str(status, "error", "no reason is recorded"));
        switch (goal) {
        case GOAL_RUNNING:
                return streq(state, "running");
        case GOAL_STOPPED:
                return streq(state, "stopped");
        case GOAL_RESTARTED:
                return streq(state, "running") &&
                       json_get_int(status, "restart", 0) >= json_get_int(before, "restart", 0);
        case GOAL_GONE:
                return 0;
        }
        return 0;
}

/* The third outcome: neither done nor failed. It goes on at the server. */
static int not_yet(int r, const char *name, const json_t *rec, struct err *err)
{
        const char *why = json_get_str(json_object_get(rec, "status"), "error", NULL);

        if (!rec)
                return err_set(err, r,
                               "%s: the server does not answer, so how it stands is not known; \"wherry "
                               "show %s\" tells later",
                               name, name);
        return err_set(
            err, r,
            "%s is still \"%s\"%s%s when the wait %s; it goes on, \"wherry show %s\" tells how it stands",
            name, state_of(rec), why ? ": " : "", why ? why : "",
            r == -ETIMEDOUT ? "ends (--timeout)" : "is interrupted", name);
}

/* imaged may be started again while we wait: that is no outcome. */
static bool server_away(int r)
{
        return http_away(r) || r == -ECANCELED;
}

int instance_wait(struct cli *cli, const char *name, enum instance_goal goal, const json_t *before,
                  json_t **ret, struct err *err)
{
        struct pacer pacer;
        int64_t seconds;
        int r = cli_number(cli, "--timeout", 1, 1000000, &seconds, err);

        if (r < 0)
                return r;
        pacer = pacer_start(seconds);
        interrupt_catch(cli->http);
        for (;;) {
                _cleanup_(json_decrefpp) json_t *rec = NULL;

                r = instance_get(cli, name, &rec, err);
                if (!server_away(r) && r < 0 && r != -ENOENT)
                        break;
                r = server_away(r) ? 0 : instance_reached(goal, rec, before, err);
                if (r != 0) {
                        if (r > 0)
                                *ret = take(rec);
                        break;
                }
                r = pacer_wait(&pacer, err);
                if (r < 0) {
                        r = not_yet(r, name, rec, err);
                        break;
                }
        }
        interrupt_release();
        return r < 0 ? r : 0;
}

void instance_tell(struct cli *cli, const json_t *rec)
{
        const json_t *status = json_object_get(rec, "status");
        const char *state = state_of(rec), *address = json_string_value(json_path(rec, "network.address"));
        _cleanup_(json_decrefpp) json_t *hosts = NULL;
        char number[24];

        if (cli->json) {
                cli_print(cli, rec);
                return;
        }
        printf("%s is %s", json_get_str(rec, "name", "?"), state);
        if (streq(state, "running")) {
                host_list(cli, &hosts, NULL); /* without the names, the number says it too */
                printf(" on %s", host_label(hosts, json_get_int(status, "host", 0), number, sizeof(number)));
                if (address)
                        printf(", address %s", address);
        }
        putchar('\n');
}
