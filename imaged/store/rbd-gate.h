/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/store/rbd-engine.h"

/* The gate of an instance, rbd-gate.c. What it is made of is said there. */
struct gate_client {
        char address[64], disk[16], start[UUID_LEN + 1];
        uint64_t epoch;
};
struct gate {
        bool complete; /* all disks are made */
        uint64_t epoch;
        char *making; /* the nonce of who makes the disks, or NULL */
        struct gate_client *clients;
        size_t n_clients;
        char (*read_only)[16]; /* names of disks that nobody writes */
        size_t n_read_only;
};
void gate_done(struct gate *g); /* for _cleanup_ */
int gate_read(rados_ioctx_t io, const char *instance, struct gate *ret, struct err *err);
bool gate_writable(const struct gate *g, const struct disk_spec *spec);
rados_write_op_t gate_begin_op(const char *nonce, const char *old);
rados_write_op_t gate_complete_op(const char *nonce, const struct disk_spec *disks, size_t n_disks);
int gate_raise(rados_ioctx_t io, const char *instance, uint64_t epoch, struct gate *ret, struct err *err);
int gate_drop(rados_ioctx_t io, const char *instance, const struct gate_client *const *clients, size_t n,
              struct err *err);
void gate_object(const char *instance, char ret[POOL_NAME_MAX]);

int rbd_lease_gate(struct store *s, const char *instance, const struct lease *mine,
                   const struct start *start, const struct disk_spec *disks, size_t n_disks,
                   struct err *err);
void rbd_start_forget(struct store *s, const char *instance, const struct start *start);

/* rbd-make.c */
int rbd_lease_create(struct store *s, const char *instance, const struct disk_spec *disks, size_t n_disks,
                     struct err *err);
int rbd_lease_remove(struct store *s, const char *instance, const struct lease *mine,
                     const struct disk_spec *disks, size_t n_disks, struct err *err);

/* rbd-fence.c */
/* Blocklists them all, in one batch, and waits until the new map is here. */
int fence_clients(const struct store *s, const struct gate_client *const *clients, size_t n,
                  struct err *err);
int rbd_lease_fence(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks, size_t n_disks,
                    struct err *err);
int rbd_selftest(struct store *s, struct err *err);
