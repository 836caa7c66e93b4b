/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/store/rbd-engine.h"

/* The gate of an instance, rbd-gate.c. What it is made of is said there. */
#define GATE_FIRST "-" /* the disk whose image has the name of the lease */
struct gate_client {
        char address[64], disk[16], start[UUID_LEN + 1];
        uint64_t epoch;
        unsigned host;         /* whose QEMU it is; 0: not known */
        struct machine ran_on; /* where it runs; "-": not known, and nobody's answer */
};
struct gate {
        bool complete; /* all disks are made */
        uint64_t epoch;
        char start[UUID_LEN + 1]; /* that raised it; empty: none, or not known */
        char *making;             /* the nonce of who makes the disks, or NULL */
        struct gate_client *clients;
        size_t n_clients;
        struct gate_client *fenced; /* on the blocklist */
        size_t n_fenced;
        char (*read_only)[16]; /* names of disks that nobody writes */
        size_t n_read_only;
        struct gate_size { /* what the first claim sees to */
                char disk[16];
                uint64_t size;
        } * sizes;
        size_t n_sizes;
};
void gate_done(struct gate *g); /* for _cleanup_ */
int gate_read(rados_ioctx_t io, const char *instance, struct gate *ret, struct err *err);

/* The gate and the names of an instance, read at the same time. Zeroed before its use. */
struct gate_look {
        struct pool_scan names_scan, gate_scan;
        struct pool_list images;
        struct gate gate;
        uint64_t version; /* of the gate's object, if all that it holds was read at once; else 0 */
};
/* -ESTALE: the name is not `mine`. */
int gate_look(struct gate_look *l, rados_ioctx_t io, const char *instance, const struct lease *mine,
              struct err *err);
void gate_look_done(struct gate_look *l); /* for _cleanup_, declared behind the I/O context */
bool gate_writable(const struct gate *g, const struct disk_spec *spec);
rados_write_op_t gate_begin_op(const char *nonce, const char *old);
rados_write_op_t gate_complete_op(const char *nonce, const struct disk_spec *disks,
                                  const struct golden *golden, size_t n_disks);
int gate_raise(rados_ioctx_t io, const char *instance, uint64_t epoch, const char *start, struct gate *ret,
               struct err *err);

/* rbd-register.c: who on this host has the disks that are written open, the clients to be registered. */
struct gate_open {
        struct {
                size_t disk;
                char address[64];
        } * client;
        size_t n;
        const struct machine *ran_on; /* the pool's */
};
int gate_open_find(struct gate_open *ret, const struct pool *p, const struct pool_client *client,
                   rados_ioctx_t io, const char *instance, const struct lease *name,
                   const struct gate_look *look, const struct disk_spec *disks, size_t n_disks,
                   struct err *err);
void gate_open_done(struct gate_open *o); /* for _cleanup_ */
/* Into `op`: they are clients of that start. */
void gate_op_register(rados_write_op_t op, const struct gate *gate, const struct gate_open *open,
                      const struct start *start, const struct lease *mine, const struct disk_spec *disks);
void gate_op_set(rados_write_op_t op, const char *key, const char *val);

/*
 * raise(mine, start) on what the look saw, which then is what raise returns, and in the same operation
 * register(mine, start) of `open` (NULL: of nobody). 0; 1: the gate has changed since that look, nothing was
 * done.
 */
int gate_raise_seen(rados_ioctx_t io, const char *instance, const struct lease *mine,
                    const struct gate_look *look, const struct gate_open *open, const struct start *start,
                    const struct disk_spec *disks, struct err *err);
/* They are no longer clients of the gate. fenced: for being on the blocklist, which is noted of them. */
int gate_drop(rados_ioctx_t io, const char *instance, const struct gate_client *const *clients, size_t n,
              bool fenced, struct err *err);
/* The value of its entry. */
#define GATE_CLIENT_TEXT 400
void gate_client_text(const struct gate_client *c, char ret[GATE_CLIENT_TEXT]);
void gate_object(const char *instance, char ret[POOL_NAME_MAX]);

int rbd_lease_gate(struct store *s, const char *instance, const struct lease *mine,
                   const struct start *start, const struct disk_spec *disks, size_t n_disks,
                   struct err *err);

/* rbd-write.c */
int rbd_may_write(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                  const struct disk_spec *disks, size_t n_disks, struct err *err);

/* rbd-lift.c */
void rbd_start_forget(struct store *s, const char *instance, const struct start *start);
int rbd_lease_fenced(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err);
int rbd_lease_lift(struct store *s, const char *instance, const struct fenced_client *client,
                   struct err *err);

/* rbd-make.c */
int rbd_lease_create(struct store *s, const char *instance, const struct disk_spec *disks, size_t n_disks,
                     struct err *err);
int rbd_lease_remove(struct store *s, const char *instance, const struct lease *mine,
                     const struct disk_spec *disks, size_t n_disks, struct err *err);

/* rbd-fence.c */
/* Blocklists them all for so many seconds, in one batch, and waits until the new map is here. */
int fence_clients(const struct store *s, const struct gate_client *const *clients, size_t n,
                  uint32_t seconds, struct err *err);
/* Whether that recorded client may go on while `start` runs. */
bool fence_spares(const struct gate *g, const struct gate_client *c, const struct start *start);
int rbd_lease_fence(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks, size_t n_disks,
                    struct err *err);
int rbd_selftest(struct store *s, struct err *err);

/* rbd-commit.c */
int rbd_lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                     const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err);
