/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/sim/world.h"

/*
 * The storage as one host sees it: an engine whose every operation is a message to the memory engine (names
 * and records) or to a disk's owner, guard or blocklist, and a message back. Either may take its time or get
 * lost; what was sent may be done after the caller has given up. Lists may lag behind by a second.
 */
struct snapshot {
        unsigned refs;
        int64_t taken;
        size_t n, room;
        struct snapshot_item {
                char id[STORE_ID_MAX + 1];
                uint64_t version;
                char *text;
                struct lease lease;
        } * items;
};

struct op {
        struct host *host;
        int64_t asked_ns;
        void (*apply)(struct op *op);
        unsigned refs; /* the caller's, and the message's while it is on its way */
        bool replied, lost;
        int result;
        struct err err;
        /* in */
        enum record_kind kind;
        char id[STORE_ID_MAX + 1];
        uint64_t number;
        char *text;
        struct lease lease;
        struct start start;
        unsigned claimer;
        int64_t uid;
        uint32_t gid;
        bool group, guarded, claims, lists, stuck, again;
        pid_t blocked[CLIENTS_MAX];
        size_t n_blocked;
        /* out */
        struct lease ret;
        uint64_t ret_number;
        uint32_t ret_uid;
        struct client *ret_clients; /* CLIENTS_MAX of them, or NULL */
        size_t ret_n_clients;
        struct snapshot *list;
};

struct snapshot *snapshot_unref(struct snapshot *s);

struct op *op_new(struct store *s, void (*apply)(struct op *op), const char *id);
void op_unref(struct op *op);
/* Sends it and waits for the answer. On -ETIMEDOUT the operation is not the caller's any more, and *op is
 * NULL: it may still be done. */
int op_call(struct store *s, struct op **pop, struct err *err);

/* store-records.c, store-names.c, store-fence.c: the engine's operations */
extern const struct engine_records sim_records;
void sim_lists_reset(void);
int sim_list_any(struct store *s, unsigned which, record_cb on, lease_cb on_name, void *arg,
                 struct err *err);
extern const struct engine_leases sim_leases;
extern const struct engine_starts sim_starts;
extern const struct engine_lifts sim_lifts;
/* The name is still op->lease, else `code`. On the storage's side of a message. */
int check_name(struct op *op, int code);
int sim_fence(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
              const struct disk_spec *disks, size_t n_disks, struct err *err);
int sim_grant(struct store *s, const char *instance, const struct lease *mine,
              const struct start *destination, const struct disk_spec *disks, size_t n_disks,
              struct err *err);
int sim_may_write(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                  const struct disk_spec *disks, size_t n_disks, struct err *err);
/* store-lift.c */
struct machine machine_of(const struct host *h);
int sim_fenced(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err);
int sim_lift(struct store *s, const char *instance, const struct fenced_client *client, struct err *err);
int sim_claim(struct store *s, const char *instance, const struct lease *from, unsigned host, bool again,
              struct lease *ret, struct err *err);
int sim_commit(struct store *s, const char *instance, const struct commit_claim *c,
               const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err);
int sim_gate(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
             const struct disk_spec *disks, size_t n_disks, struct err *err);
