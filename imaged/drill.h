/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/daemon.h"
#include "migrate/failover.h"
#include "migrate/planner.h"

/*
 * What would happen if a host died now, by the very machine that hostd runs when one does
 * (migrate/failover.h): priority, room and groups. A pure function of one look at hosts and instances.
 */
struct drill_instance {
        char id[UUID_LEN + 1];
        char *name, *group; /* group: "OWNER/GROUP" or NULL */
        unsigned host;
        int priority;
        unsigned cpus;
        uint64_t memory; /* bytes */
};
struct drill {
        struct planner_host *hosts; /* with what they use */
        size_t n_hosts;
        struct drill_instance *instances; /* that should run; sorted by host */
        size_t n_instances, room;
        size_t n_grouped; /* those with a group */
};
/* To be called once all instances are there. */
void drill_sort(struct drill *d);
/* The first instance on that host, and how many follow it. */
const struct drill_instance *drill_of(const struct drill *d, unsigned host, size_t *ret_n);

/*
 * What is so now. after NULL: all records are looked at again. Else the id of an instance that was just
 * placed: a list that is a second old will do, as for a placement, which spares the storage; that instance,
 * and what this imaged placed meanwhile, is in it for sure. The caller calls drill_done() also after a
 * failure.
 */
int drill_look(struct imaged *im, const char *after, struct drill *ret, struct err *err);
void drill_done(struct drill *d);

/*
 * `dead` dies: its instances in the order of the failover, each DONE with its target or FAILED with a
 * reason; `instance` is an id of d's. *ret is the caller's, its groups borrowed from d.
 */
int drill_run(const struct drill *d, unsigned dead, struct failover_item **ret, size_t *ret_n,
              struct err *err);

/* GET /v1/hosts/{id}/drill, GET /v1/drill, POST /v1/hosts/{id}/maintenance: host-ops.c */
int host_on_drill(struct http_request *req, void *userdata, struct err *err);
int host_on_drill_all(struct http_request *req, void *userdata, struct err *err);
int host_on_maintenance(struct http_request *req, void *userdata, struct err *err);
