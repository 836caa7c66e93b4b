/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/faults.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <xxhash.h>

struct faults {
        enum fault kind;
        uint64_t seed;
        unsigned per_100000;
        uint64_t calls; /* from here on changed by all processes, atomically or under the lock */
        unsigned injected;
        bool racing;
        pthread_mutex_t lock; /* guards the aim */
        char op[32];
        enum fault aimed;
        unsigned skip;
        bool hit;
};

struct faults *faults;

static const char *const kinds[FAULT_KINDS] = {
    [FAULT_NONE] = "none", [FAULT_DELAY] = "delay", [FAULT_FAIL] = "fail",   [FAULT_DROP] = "drop",
    [FAULT_LOSE] = "lose", [FAULT_LATE] = "late",   [FAULT_TWICE] = "twice",
};

int faults_begin(void)
{
        const char *text = getenv("STORE_FAULTS");
        char kind[16] = "none";
        uint64_t seed = 0;
        double percent = 0;
        pthread_mutexattr_t attr;

        if (text && sscanf(text, "%15[a-z]:%" SCNu64 ":%lf", kind, &seed, &percent) != 3)
                return -EINVAL;
        faults = mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (faults == MAP_FAILED)
                return -ENOMEM;
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        pthread_mutex_init(&faults->lock, &attr);
        faults->seed = seed;
        faults->per_100000 = (unsigned)(percent * 1000);
        for (int k = 0; k < FAULT_KINDS; k++)
                if (kinds[k] && streq(kind, kinds[k])) {
                        faults->kind = k;
                        return 0;
                }
        return -EINVAL;
}

bool faults_on(void)
{
        return faults && faults->kind != FAULT_NONE;
}

enum fault faults_kind(void)
{
        return faults ? faults->kind : FAULT_NONE;
}

static uint64_t chance(void)
{
        uint64_t at[2] = {faults->seed, __atomic_add_fetch(&faults->calls, 1, __ATOMIC_SEQ_CST)};

        return XXH3_64bits(at, sizeof(at));
}

static enum fault aimed_at(const char *op)
{
        enum fault f = FAULT_NONE;

        pthread_mutex_lock(&faults->lock);
        if (faults->op[0] && streq(faults->op, op) && faults->skip-- == 0) {
                f = faults->aimed;
                faults->op[0] = '\0';
                faults->hit = true;
        }
        pthread_mutex_unlock(&faults->lock);
        return f;
}

enum fault fault_next(const char *op)
{
        enum fault f;

        if (!faults)
                return FAULT_NONE;
        f = aimed_at(op);
        if (f == FAULT_NONE && faults_on() && chance() % 100000 < faults->per_100000)
                f = faults->kind;
        if (f != FAULT_NONE)
                __atomic_add_fetch(&faults->injected, 1, __ATOMIC_SEQ_CST);
        return f;
}

static void pause_ms(uint64_t ms)
{
        clock_nanosleep(
            CLOCK_MONOTONIC, 0,
            &(struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

void fault_pause(void)
{
        pause_ms(1 + chance() % 15);
}

void fault_pause_late(void)
{
        pause_ms(FAULT_LATE_MS);
}

void fault_aim(const char *op, enum fault fault, unsigned skip)
{
        pthread_mutex_lock(&faults->lock);
        snprintf(faults->op, sizeof(faults->op), "%s", op);
        faults->aimed = fault;
        faults->skip = skip;
        faults->hit = false;
        pthread_mutex_unlock(&faults->lock);
}

bool fault_hit(void)
{
        bool hit;

        pthread_mutex_lock(&faults->lock);
        hit = faults->hit;
        pthread_mutex_unlock(&faults->lock);
        return hit;
}

void faults_racing(bool on)
{
        if (faults)
                faults->racing = on;
}

bool faults_are_racing(void)
{
        return faults && faults->racing;
}

void faults_report(void)
{
        if (faults_on())
                printf("faults: %u of kind \"%s\" among %" PRIu64 " operations, seed %" PRIu64 "\n",
                       faults->injected, kinds[faults->kind], faults->calls, faults->seed);
}
