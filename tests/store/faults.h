/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imaged/store/engine.h"

/*
 * Faults between the store's code and the real storage. Where they are put in: dir around the operations of
 * the file system (fault-fs.c), nfs on the wire (nfs-proxy.c), rbd around the calls of librados and librbd
 * (fault-rbd.c), mem around the engine (fault-mem.c).
 *
 * A run has one kind of fault, by chance from a seed, from the environment: STORE_FAULTS=KIND:SEED:PERCENT.
 * Besides, a test may aim one fault at one operation. What is in force lies in memory shared with the
 * processes that a test forks and with the proxy.
 */
enum fault {
        FAULT_NONE,
        FAULT_DELAY, /* done, some milliseconds late */
        FAULT_FAIL,  /* refused with an I/O error, or (nfs) "try again later"; not done */
        FAULT_DROP,  /* not done, and the answer is "unknown" */
        FAULT_LOSE,  /* done, and the answer is "unknown" */
        FAULT_LATE,  /* the answer is "unknown" at once; done some time afterwards */
        FAULT_TWICE, /* nfs: sent again, and the second answer is the one that counts */
        FAULT_MUTE, /* not done, no answer ever: the caller's own time limit must end it (never by chance) */
        FAULT_KINDS
};

struct faults;
extern struct faults *faults; /* NULL: none */

/* By STORE_FAULTS; at the start of a process, before anything forks. Returns 0, or -EINVAL. */
int faults_begin(void);
bool faults_on(void); /* by chance */
enum fault faults_kind(void);
/* What is to happen to the next operation of that name, and what is counted for the report. */
enum fault fault_next(const char *op);
void fault_pause(void); /* a delay's some milliseconds */
#define FAULT_LATE_MS 150
void fault_pause_late(void);
/* The `skip` + 1st operation `op` from now on meets `fault`, once; "" takes it back. */
void fault_aim(const char *op, enum fault fault, unsigned skip);
bool fault_hit(void); /* the aimed one has happened */
/* Under a test of racers somebody else may have done what an unknown call asked for. */
void faults_racing(bool on);
bool faults_are_racing(void);
void faults_report(void);

/*
 * What everybody who uses a store must do with the answer "unknown": look, then ask again. Puts itself
 * between the checks of store.c and the engine, so that the tests see definite answers; with no faults it is
 * left out.
 */
void patient_put_in(struct store *s);
/* Undoes it: the test wants the engine's own answers. */
void patient_take_out(struct store *s);

/* The same for the faults themselves, by engine; rbd's are linked in, nfs' need the proxy's address. */
void fault_mem_put_in(struct store *s);
void fault_fs_put_in(struct store *s);
/* A proxy on address `at` for the NFS server on `server`, as a process that ends with this one. */
int nfs_proxy_start(const char *at, const char *server);
