/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "imaged/daemon.h"

/* Which host takes an instance: the planner over the hosts' records and what the instances' records use. Any
 * thread. */
struct places; /* what was placed moments ago and no list shows yet */
int places_new(struct places **ret, struct err *err);
struct places *places_free(struct places *ps);

#define PLACE_GROUP_LEN 159

/* What an instance needs and where. `id` counts against the host from now on, also before lists show its
 * record. */
struct placing {
        const char *id;
        unsigned cpus;
        uint64_t memory;
        char group[PLACE_GROUP_LEN + 1]; /* "OWNER/GROUP": no host that has one of it already; empty: none */
        unsigned only, not_on;           /* as in planner_need */
        unsigned preferred;              /* taken where it fits, though another has more room; 0: none */
};
/* What the record says it needs. `id` is borrowed from it. */
void placing_from(const json_t *record, struct placing *ret);
/* -ENOSPC names for each host why not, and the instances of its group that are in the way. */
int place_pick(struct imaged *im, const struct placing *p, unsigned *ret, struct err *err);

/* The ids of what this imaged placed in the last seconds, which lists may not show yet. The caller frees
 * *ret. */
int places_recent(struct places *ps, char (**ret)[UUID_LEN + 1], size_t *ret_n);
#define PLACE_LIST_MS 1000 /* how old a list of instances may be for a placement */

/* GET /v1/hosts */
int place_on_hosts(struct http_request *req, void *userdata, struct err *err);
