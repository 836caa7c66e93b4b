/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hostd/ring/ring.h"
#include "hostd/survey.h"
#include "migrate/watch.h"

struct lift_proof;

/* A neighbour on the ring, and the thread that watches it and no other: nothing that is slow about one host
 * delays the verdict on another. */
struct neighbour {
        struct neighbour *next; /* the ring's lock */
        struct context *ctx;
        unsigned number;

        /* the ring's lock */
        struct survey_host host; /* as the hosts thread has listed it, or the record said later */
        bool wanted;             /* a neighbour still; else its thread ends and frees it */
        bool nearest;            /* of all: what is told once is told by this one */
        struct watch watch;
        struct sight sight;

        /* its own thread */
        uint64_t told_epoch; /* at which it was told that this host waits for it, or lets it be */
        uint64_t met_epoch;  /* at which its record was asked whether it is returning, too */
};

/* Shared by the files of this folder. */
struct ring {
        struct ring_identity *identity; /* enter.c; constant after ring_enter() */

        /* main */
        pthread_t beat_thread;
        bool beat_running;
        atomic_bool beat_quit; /* set last: while a thread is still at work, the host is alive */

        atomic_bool list_now; /* any: the hosts thread lists at once */
        atomic_bool testing;  /* hosts: there is a self-test task */

        pthread_mutex_t selftest_lock; /* one self-test at a time; held during it */

        /* lock */
        pthread_mutex_t lock;
        unsigned *takeovers; /* numbers of the dead hosts being worked on */
        size_t n_takeovers;
        struct neighbour *neighbours;
        struct homecoming home;
        struct ring_host *first; /* home.first: constant once it is there */
        int64_t listed_ms;       /* when the hosts were last listed; 0: not yet */

        /* scan, which starts it, and the lift task while there is one */
        int64_t lift_ms;     /* when the last one was started */
        atomic_bool lifting; /* there is one */
        bool lift_refused;   /* this user has not the right to it, and that was said */
        struct lift_proof *lift_proofs;
        size_t n_lift_proofs;
};

/* Which machine this is, and what the host record said when that was decided. */
struct ring_identity {
        struct machine self;
        bool beating;             /* the record named this very machine */
        bool joined;              /* by this run of hostd */
        char nonce[UUID_LEN + 1]; /* of the record that was decided on */
        uint64_t epoch;
        uint64_t counter; /* of the other machine's heartbeat, which stood still */
        bool counted;     /* there was one */
};
struct machine machine_of_record(const json_t *doc);

/* neighbours.c: those are the neighbours from now on, the nearest first. Hosts thread. */
void neighbours_set(struct context *ctx, const struct survey_host *const *hosts, size_t n);

/* sight.c: a task; arg is the context */
void sight_main(void *arg);
