/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "hostd/record.h"
#include "imaged/store/store.h"
#include "migrate/instance.h"
#include "migrate/planner.h"
#include "migrate/takeover.h"
#include "migrate/watch.h"

/* All hosts and instances as the storage tells them at one time: what the ring, the planner and a failover
 * work on. */
struct survey_instance {
        char id[UUID_LEN + 1];
        struct lease lease;
        enum wanted wanted;
        bool told_off; /* its status says that nothing runs of it */
        int priority;
        unsigned cpus;
        uint64_t memory;           /* bytes */
        unsigned placement;        /* the host that may claim it at this epoch; 0: none */
        char group[GROUP_LEN + 1]; /* "owner/group", empty: none */
};
struct survey_host {
        struct ring_host ring;
        char name[65];
        char api[128];            /* where its hostd listens */
        char nonce[UUID_LEN + 1]; /* of the hostd that joined last */
        bool drained;
        bool cut_off;          /* its bridge's uplink is dead */
        char cannot_start[64]; /* why not; empty: it can */
        int64_t disarmed_ms;   /* of a host that stopped in order: how long nobody acts */
        unsigned cpus;
        uint64_t memory; /* bytes */
};
struct survey {
        struct survey_host *hosts;
        size_t n_hosts;
        struct survey_instance *instances; /* sorted by id; with disks and a sound record only */
        size_t n_instances;
};

/* As takeover_share() wants it. */
struct takeover_instance survey_seen(const struct survey *s, const struct survey_instance *in);

/* Hosts only (cheap), or everything. The caller calls survey_done() also on what a failed call left
 * untouched. */
int survey_hosts(struct store *s, struct survey *ret, struct err *err);
int survey_all(struct store *s, struct survey *ret, struct err *err);
void survey_done(struct survey *s);

/* The hosts that are up, for the planner, with every instance that should run counted where it is. Freed by
 * the caller. */
int survey_plan(const struct survey *s, struct planner_host **ret, size_t *ret_n);
struct failover_seat;
/* Who with a group should run where, but for one instance (or NULL) and one host (or 0). Freed by the
 * caller; the groups are the survey's. */
int survey_seats(const struct survey *s, const char *but, unsigned not_on, struct failover_seat **ret,
                 size_t *ret_n);
/* The ring's view; freed by the caller. */
int survey_ring(const struct survey *s, struct ring_host **ret);
