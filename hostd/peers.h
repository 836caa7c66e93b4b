/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/err.h"
#include "hostd/context.h"

/* The other hosts: their records, and calls of their API. Blocking; any thread. */

/* The id of a host's record. */
#define PEER_ID_LEN 12
void peer_id(unsigned number, char ret[PEER_ID_LEN]);
/* A host's record by number, for its addresses; -ENOENT. The caller drops *ret. */
int peer_record(struct context *ctx, unsigned number, json_t **ret, struct err *err);
/* POST /v1/look on another host. to_start: it is to start the instance, so it says no where it can start
 * nothing. */
int peer_look(struct context *ctx, unsigned number, const char *instance, bool to_start, struct err *err);
