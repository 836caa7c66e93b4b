/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "imaged/store/store.h"
#include "migrate/instance.h"

/* Records as hostd reads and changes them. Blocking; any thread. */

int record_load(struct store *s, enum record_kind kind, const char *id, json_t **ret, uint64_t *ret_version,
                struct err *err);

/* Changes doc in place; returns 1 to write it, 0 when there is nothing to change, -errno to give up. It may
 * be called several times. */
typedef int (*record_edit)(json_t *doc, void *arg, struct err *err);
/* get, edit, put; again when another was first. A record that is not there is -ENOENT. */
int record_change(struct store *s, enum record_kind kind, const char *id, record_edit edit, void *arg,
                  struct err *err);

#define GROUP_LEN 159 /* two names and what is between them */

/* An instance record, checked. Strings are borrowed from doc. */
struct instance {
        json_t *doc; /* owned */
        uint64_t version;
        const char *id, *name, *image, *iso, *mac, *address;
        enum wanted wanted;
        unsigned cpus;
        uint64_t memory, disk; /* bytes */
        int priority;
        bool stop_force;
        char group[GROUP_LEN + 1]; /* "owner/group": no two of one owner's group on a host; empty: none */
        unsigned placement_host;
        uint64_t placement_epoch;
        int64_t restart, restart_done;
        unsigned move_to;
        uint64_t move_epoch;
        int64_t move_serial, move_serial_done;
        char entry_attempt[UUID_LEN + 1]; /* the migration entry; empty: none */
        unsigned entry_source, entry_destination;
        uint64_t entry_epoch;
        struct start entry_start;
        const char *arrived; /* the attempt whose QEMU was let run last, "" when there is none */
        struct start start;  /* the QEMU that was last let run, at start_epoch; id empty: none */
        uint64_t start_epoch;
        const char *start_boot;             /* of the kernel that it ran under, "" where that is not known */
        const char *state, *reason, *error; /* of the status, "" when there is none */
        unsigned state_host, tries;
        uint64_t state_epoch;
};
int instance_load(struct store *s, const char *id, struct instance *ret, struct err *err);
/* record_change() of an instance that has been loaded: if nobody has changed it since, one write is all. */
int instance_change(struct store *s, const struct instance *i, record_edit edit, void *arg, struct err *err);
int instance_from_json(json_t *doc /* stolen, also on failure */, struct instance *ret, struct err *err);
/* Its status says that nothing runs of it, at the epoch of that name. */
bool instance_told_off(const struct instance *i, const struct lease *lease);
void instance_done(struct instance *i); /* leaves it zeroed */

/* Its disks, as the store's calls want them: disk0 and the seed. Returns their number. */
#define INSTANCE_DISKS 2
size_t instance_disks(const struct instance *i, struct disk_spec ret[INSTANCE_DISKS]);

json_t *start_to_json(const struct start *start, uint64_t epoch);
