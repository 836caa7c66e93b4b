/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "common/err.h"

struct cli;

/* What a command waits for. */
enum instance_goal { GOAL_RUNNING, GOAL_STOPPED, GOAL_RESTARTED, GOAL_GONE };

/* GET of one record. `name` is a name or an id. The caller owns *ret. */
int instance_get(struct cli *cli, const char *name, json_t **ret, struct err *err);

/* POST /v1/instances/NAME/ACTION. ret may be NULL. */
int instance_post(struct cli *cli, const char *name, const char *action, const json_t *body, json_t **ret,
                  struct err *err);

/*
 * Looks at one record: 1 where the goal is reached, 0 where it is not yet, -EIO with the record's own words
 * where the instance has failed since `before` was read (the record as the server answered the request). rec
 * NULL: it is gone.
 */
int instance_reached(enum instance_goal goal, const json_t *rec, const json_t *before, struct err *err);

/* Asks until the goal is reached, for at most --timeout seconds. *ret is the last record; NULL for
 * GOAL_GONE. */
int instance_wait(struct cli *cli, const char *name, enum instance_goal goal, const json_t *before,
                  json_t **ret, struct err *err);

/* One line of what became of it, or the record as JSON. */
void instance_tell(struct cli *cli, const json_t *rec);
