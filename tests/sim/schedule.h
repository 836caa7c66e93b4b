/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One thread, many coroutines, one clock that jumps from event to event: what runs next is decided by times
 * that the seed has drawn, so the same seed gives the same run. Every coroutine belongs to a process, which
 * can be killed or paused at any point where one of its coroutines waits.
 */
struct co;
struct host;

struct proc {
        struct proc *next; /* of all */
        struct host *host;
        const char *what;
        unsigned id;
        bool dead;
        int64_t paused_until; /* SIGSTOP: nothing of it runs before */
};

#define SIM_US 1000LL
#define SIM_MS 1000000LL
#define SIM_S 1000000000LL
#define SIM_NEVER INT64_MAX

void sched_init(uint64_t seed);
/* Runs until sched_stop() or until nothing is left to do. */
void sched_run(void);
void sched_stop(void);
int64_t sched_now(void);    /* ns since the start */
uint64_t sched_steps(void); /* so far */
uint64_t sched_trace(void); /* a hash of all steps: equal runs have equal ones */

/* The seed's choices. */
uint64_t rnd(uint64_t n);                       /* 0 .. n-1 */
int64_t rnd_between(int64_t low, int64_t high); /* both included */
bool rnd_chance(unsigned per_million);
uint64_t rnd_u64(void);

struct proc *proc_new(struct host *host, const char *what);
void proc_kill(struct proc *p); /* of the caller's own process: does not return */
struct proc *proc_current(void);
struct host *host_current(void); /* NULL: the world's */

/* Returns its number, which co_join() takes. Runs soon, not at once. */
unsigned long co_spawn(struct proc *p, void (*run)(void *arg), void *arg);
void co_join(unsigned long number);
void co_sleep(int64_t ns);
/* 0 when woken, -ETIMEDOUT at `deadline` (ns, SIM_NEVER). */
int co_wait(const void *channel, int64_t deadline);
void co_wake(const void *channel, bool all);
/* A word of the current coroutine's own, for whoever checks it; 0 when it begins. */
uint64_t *co_note(void);
/* With a small probability something else runs here. */
void co_maybe_yield(void);
/* fn runs on the scheduler's own stack and must not wait. */
void event_at(int64_t time, void (*fn)(void *arg), void *arg);
