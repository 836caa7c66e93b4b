/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hostd/ring/ring.h"

struct lift_proof;

/* Shared by the files of this folder. */
struct ring {
        /* join.c, beat.c, watch.c */
        pthread_t beat_thread, watch_thread;
        bool beat_running, watch_running;
        atomic_bool beat_quit; /* set last: while a thread is still at work, the host is alive */

        pthread_mutex_t selftest_lock; /* one self-test at a time; held during it */

        /* lock */
        pthread_mutex_t lock;
        unsigned *takeovers; /* numbers of the dead hosts being worked on */
        size_t n_takeovers;

        /* main, which starts it, and the lift task while there is one */
        int64_t lift_ms;     /* when the last one was started */
        atomic_bool lifting; /* there is one */
        bool lift_refused;   /* this user has not the right to it, and that was said */
        struct lift_proof *lift_proofs;
        size_t n_lift_proofs;
};
