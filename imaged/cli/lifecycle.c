/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/host.h"
#include "imaged/cli/instance.h"

/* stop, start, restart and rm: ask, wait for the outcome, say what happened. */

static int act(struct cli *cli, const char *action, bool takes_force, enum instance_goal goal,
               struct err *err)
{
        _cleanup_(json_decrefpp) json_t *before = NULL, *after = NULL, *body = NULL;
        const char *name = cli->arguments[0];
        int r;

        if (takes_force) {
                body = json_pack("{s:b}", "force", cli_given(cli, "--force"));
                if (!body)
                        return err_set(err, -ENOMEM, "out of memory");
        }
        r = instance_post(cli, name, action, body, &before, err);
        if (r < 0)
                return r;
        if (cli_given(cli, "--no-wait")) {
                if (goal == GOAL_RUNNING)
                        host_warn_losses(cli, before);
                if (cli->json)
                        cli_print(cli, before);
                else
                        printf("%s: %s is asked for\n", name, action);
                return 0;
        }
        r = instance_wait(cli, name, goal, before, &after, err);
        if (r < 0)
                return r;
        if (goal == GOAL_RUNNING)
                host_warn_losses(cli, after);
        instance_tell(cli, after);
        return 0;
}

int cmd_stop(struct cli *cli, struct err *err)
{
        return act(cli, "stop", true, GOAL_STOPPED, err);
}

int cmd_start(struct cli *cli, struct err *err)
{
        return act(cli, "start", false, GOAL_RUNNING, err);
}

int cmd_restart(struct cli *cli, struct err *err)
{
        return act(cli, "restart", true, GOAL_RESTARTED, err);
}

int cmd_rm(struct cli *cli, struct err *err)
{
        const char *name = cli->arguments[0], *id;
        _cleanup_(json_decrefpp) json_t *rec = NULL, *gone = NULL, *doc = NULL;
        bool wait = !cli_given(cli, "--no-wait");
        int r = instance_get(cli, name, &rec, err);

        if (r < 0)
                return r;
        /* From here on by its id: the name may be given to another instance while we wait. */
        id = json_get_str(rec, "id", name);
        r = cli_call(cli, "DELETE", NULL, NULL, err, "/v1/instances/%s", id);
        if (r == 0 && wait)
                r = instance_wait(cli, id, GOAL_GONE, rec, &gone, err);
        if (r < 0)
                return r;
        if (cli->json) {
                doc = json_pack("{s:s,s:s,s:b}", "id", id, "name", json_get_str(rec, "name", name),
                                "deleted", wait);
                cli_print(cli, doc);
        } else
                printf("%s is %sremoved\n", json_get_str(rec, "name", name), wait ? "" : "being ");
        return 0;
}
