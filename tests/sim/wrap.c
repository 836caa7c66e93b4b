/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "tests/sim/world.h"

/*
 * What hostd and the store call of the C library, put in its place with the linker's --wrap: threads are
 * coroutines, locks and waits are the scheduler's, time is the world's.
 */
struct world W;

/* Laid over the C library's objects, which its initialisers set to zero. */
struct lock {
        int locked, waiters;
};
_Static_assert(sizeof(struct lock) <= sizeof(pthread_mutex_t), "a lock fits into a mutex");

void world_hold(void)
{
        W.held++;
}

void world_release(void)
{
        W.held--;
}

int64_t host_clock_ns(const struct host *h)
{
        return sched_now() + (h ? h->offset_ns : 0);
}

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr);
int __wrap_pthread_cond_destroy(pthread_cond_t *c);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until);
int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_join(pthread_t t, void **ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_poll(struct pollfd *p, nfds_t n, int ms);
int __wrap_signalfd(int fd, const void *set, int flags);
int __wrap_chown(const char *path, uid_t uid, gid_t gid);
void __wrap_uuid_random(char ret[UUID_LEN + 1]);
uint64_t __wrap_random_u64(void);
int __real_clock_gettime(clockid_t id, struct timespec *ret);

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
        memset(m, 0, sizeof(*m));
        return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *m)
{
        return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
        struct lock *l = (struct lock *)m;

        if (W.held == 0)
                co_maybe_yield();
        while (l->locked) {
                assert(W.held == 0);
                l->waiters++;
                co_wait(m, SIM_NEVER);
                l->waiters--;
        }
        l->locked = 1;
        return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
        struct lock *l = (struct lock *)m;

        assert(l->locked);
        l->locked = 0;
        if (l->waiters > 0)
                co_wake(m, false);
        return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr)
{
        memset(c, 0, sizeof(*c));
        return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *c)
{
        return 0;
}

static int cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline)
{
        int r;

        __wrap_pthread_mutex_unlock(m);
        r = co_wait(c, deadline);
        __wrap_pthread_mutex_lock(m);
        return -r;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
        /* Now and then it returns for no reason, as POSIX allows. */
        cond_wait(c, m, rnd(20) == 0 ? sched_now() + (int64_t)rnd(2 * SIM_S) : SIM_NEVER);
        return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until)
{
        const struct host *h = host_current();

        return cond_wait(c, m, until->tv_sec * SIM_S + until->tv_nsec - (h ? h->offset_ns : 0));
}

int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
        co_wake(c, false);
        return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
        co_wake(c, true);
        return 0;
}

struct thread {
        void *(*run)(void *arg);
        void *arg;
};

static void thread_main(void *arg)
{
        struct thread t = *(struct thread *)arg;

        free(arg);
        t.run(t.arg);
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
        struct thread *t = malloc(sizeof(*t));

        if (!t)
                return EAGAIN;
        *t = (struct thread){run, arg};
        *ret = co_spawn(proc_current(), thread_main, t);
        return 0;
}

int __wrap_pthread_join(pthread_t t, void **ret)
{
        co_join(t);
        return 0;
}

#define WALL_NS (1700000000 * SIM_S)

int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
        int64_t t = host_clock_ns(host_current()) + (id == CLOCK_REALTIME ? WALL_NS : 0);

        *ret = (struct timespec){.tv_sec = t / SIM_S, .tv_nsec = t % SIM_S};
        return 0;
}

/* hostd polls either nothing, to wait, or the descriptor of its signals. */
int __wrap_poll(struct pollfd *p, nfds_t n, int ms)
{
        co_sleep(ms * SIM_MS + rnd_between(0, 300) * SIM_US);
        return n > 0 && host_current()->term;
}

/* A number that no call takes for an open file. */
/* Disks are the world's, no files. */
int __wrap_chown(const char *path _unused_, uid_t uid _unused_, gid_t gid _unused_)
{
        return 0;
}

int __wrap_signalfd(int fd, const void *set, int flags)
{
        return 1 << 20;
}

uint64_t __wrap_random_u64(void)
{
        return rnd_u64();
}

void __wrap_uuid_random(char ret[UUID_LEN + 1])
{
        uint64_t a = rnd_u64(), b = rnd_u64();

        snprintf(ret, UUID_LEN + 1, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(a >> 32),
                 (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xfff),
                 (unsigned)(0x8000 | (b >> 48 & 0x3fff)), (unsigned long long)(b & 0xffffffffffff));
}

/* --- the story --- */

static void line(const char *who, const char *fmt, va_list ap)
{
        int64_t us = sched_now() / SIM_US;

        printf("%4lld.%06lld %-6s ", (long long)(us / 1000000), (long long)(us % 1000000), who);
        vprintf(fmt, ap);
        putchar('\n');
}

void log_level(int max_priority)
{
}

void log_at(int priority, const char *fmt, ...)
{
        const struct host *h = host_current();
        va_list ap;

        if (!W.verbose)
                return;
        va_start(ap, fmt);
        line(h ? h->name : "world", fmt, ap);
        va_end(ap);
}

void tell(const char *fmt, ...)
{
        va_list ap;

        if (!W.verbose)
                return;
        va_start(ap, fmt);
        line("--", fmt, ap);
        va_end(ap);
}

void violated(const char *fmt, ...)
{
        va_list ap;

        if (!W.violation[0]) {
                va_start(ap, fmt);
                vsnprintf(W.violation, sizeof(W.violation), fmt, ap);
                va_end(ap);
                tell("VIOLATION: %s", W.violation);
        }
        sched_stop();
}
