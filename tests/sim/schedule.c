/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/schedule.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define FIBER_START(save, bottom, size) __sanitizer_start_switch_fiber(save, bottom, size)
#define FIBER_FINISH(save, bottom, size) __sanitizer_finish_switch_fiber(save, bottom, size)
#define FIBER_CLEAN(stack) __asan_unpoison_memory_region(stack, STACK_SIZE)
#define STACK_SIZE ((size_t)1 << 20)
#else
#define FIBER_START(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define FIBER_FINISH(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define FIBER_CLEAN(stack) ((void)(stack))
#define STACK_SIZE ((size_t)384 << 10)
#endif

struct co {
        struct co *next_free;
        ucontext_t context;
        void *stack, *fake;
        struct proc *proc; /* NULL: unused */
        void (*run)(void *arg);
        void *arg;
        unsigned long number;
        uint64_t serial;     /* a wake-up in the heap counts only while this is its own */
        const void *channel; /* waited for */
        bool timed_out;
        size_t index;  /* in all[] */
        uint64_t note; /* co_note() */
};

/* What is due, the earliest first; among equal times the seed decides. */
struct due {
        int64_t time;
        uint64_t tie;
        struct co *co; /* or NULL: fn(arg) */
        uint64_t serial;
        void (*fn)(void *arg);
        void *arg;
};

/* The libc calls that are wrapped know no handle, so there is one scheduler in a process. */
static struct {
        int64_t now;
        uint64_t random[4], steps, trace;
        struct due *heap;
        size_t n_heap, room_heap;
        struct co **all; /* in use */
        size_t n_all, room_all;
        struct co *free, *current;
        struct proc *procs;
        unsigned n_procs;
        unsigned long numbers;
        ucontext_t main;
        void *main_fake;
        const void *main_bottom;
        size_t main_size;
        bool stop;
} S;

/* --- the seed's choices: xoshiro256** after splitmix64 --- */

static uint64_t rotl(uint64_t x, int k)
{
        return (x << k) | (x >> (64 - k));
}

uint64_t rnd_u64(void)
{
        uint64_t *s = S.random, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotl(s[3], 45);
        return result;
}

uint64_t rnd(uint64_t n)
{
        return n ? rnd_u64() % n : 0;
}

int64_t rnd_between(int64_t low, int64_t high)
{
        return low + (int64_t)rnd((uint64_t)(high - low) + 1);
}

bool rnd_chance(unsigned per_million)
{
        return rnd(1000000) < per_million;
}

/* --- the heap --- */

static bool before(const struct due *a, const struct due *b)
{
        return a->time != b->time ? a->time < b->time : a->tie < b->tie;
}

static void heap_push(struct due d)
{
        size_t i = S.n_heap++;

        if (S.n_heap > S.room_heap) {
                S.room_heap = S.room_heap ? S.room_heap * 2 : 1024;
                S.heap = reallocarray(S.heap, S.room_heap, sizeof(*S.heap));
                assert(S.heap);
        }
        d.tie = rnd_u64();
        while (i > 0 && before(&d, &S.heap[(i - 1) / 2])) {
                S.heap[i] = S.heap[(i - 1) / 2];
                i = (i - 1) / 2;
        }
        S.heap[i] = d;
}

static struct due heap_pop(void)
{
        struct due top = S.heap[0], last = S.heap[--S.n_heap];
        size_t i = 0;

        for (size_t c; (c = 2 * i + 1) < S.n_heap; i = c) {
                if (c + 1 < S.n_heap && before(&S.heap[c + 1], &S.heap[c]))
                        c++;
                if (!before(&S.heap[c], &last))
                        break;
                S.heap[i] = S.heap[c];
        }
        S.heap[i] = last;
        return top;
}

void event_at(int64_t time, void (*fn)(void *arg), void *arg)
{
        heap_push((struct due){.time = time, .fn = fn, .arg = arg});
}

/* --- coroutines --- */

static void to_main(void **fake)
{
        struct co *c = S.current;

        FIBER_START(fake, S.main_bottom, S.main_size);
        swapcontext(&c->context, &S.main);
        FIBER_FINISH(c->fake, &S.main_bottom, &S.main_size);
}

static void co_release(struct co *c)
{
        S.all[c->index] = S.all[--S.n_all];
        S.all[c->index]->index = c->index;
        c->proc = NULL;
        c->channel = NULL;
        c->serial++;
        c->number = 0;
        c->next_free = S.free;
        S.free = c;
}

static void co_main(void)
{
        struct co *c = S.current;

        FIBER_FINISH(c->fake, &S.main_bottom, &S.main_size);
        c->run(c->arg);
        co_wake((const char *)&S + c->number, true);
        co_release(c);
        to_main(NULL);
}

static void context_init(struct co *c)
{
        FIBER_CLEAN(c->stack);
        getcontext(&c->context);
        c->context.uc_stack.ss_sp = c->stack;
        c->context.uc_stack.ss_size = STACK_SIZE;
        c->context.uc_link = NULL;
        makecontext(&c->context, co_main, 0);
}

unsigned long co_spawn(struct proc *p, void (*run)(void *arg), void *arg)
{
        struct co *c = S.free;

        if (c) {
                S.free = c->next_free;
        } else {
                c = calloc(1, sizeof(*c));
                assert(c);
                c->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                assert(c->stack != MAP_FAILED);
        }
        if (S.n_all == S.room_all) {
                S.room_all = S.room_all ? S.room_all * 2 : 256;
                S.all = reallocarray(S.all, S.room_all, sizeof(struct co *));
                assert(S.all);
        }
        c->index = S.n_all;
        S.all[S.n_all++] = c;
        c->proc = p;
        c->run = run;
        c->arg = arg;
        c->number = ++S.numbers;
        c->channel = NULL;
        c->note = 0;
        c->fake = NULL;
        context_init(c);
        heap_push((struct due){.time = S.now + rnd_between(1, 50) * SIM_US, .co = c, .serial = c->serial});
        return c->number;
}

static void co_suspend(void)
{
        struct co *c = S.current;

        to_main(&c->fake);
}

void co_sleep(int64_t ns)
{
        struct co *c = S.current;

        c->serial++;
        heap_push((struct due){.time = S.now + ns, .co = c, .serial = c->serial});
        co_suspend();
}

int co_wait(const void *channel, int64_t deadline)
{
        struct co *c = S.current;

        c->serial++;
        c->channel = channel;
        c->timed_out = false;
        if (deadline != SIM_NEVER)
                heap_push(
                    (struct due){.time = deadline > S.now ? deadline : S.now, .co = c, .serial = c->serial});
        co_suspend();
        return c->timed_out ? -ETIMEDOUT : 0;
}

void co_wake(const void *channel, bool all)
{
        size_t start = all || S.n_all == 0 ? 0 : rnd(S.n_all);

        for (size_t k = 0; k < S.n_all; k++) {
                struct co *c = S.all[(start + k) % S.n_all];

                if (c->channel != channel || !c->proc)
                        continue;
                c->channel = NULL;
                c->serial++;
                heap_push(
                    (struct due){.time = S.now + rnd_between(1, 30) * SIM_US, .co = c, .serial = c->serial});
                if (!all)
                        return;
        }
}

void co_join(unsigned long number)
{
        for (;;) {
                bool found = false;

                for (size_t k = 0; k < S.n_all && !found; k++)
                        found = S.all[k]->number == number;
                if (!found)
                        return;
                co_wait((const char *)&S + number, SIM_NEVER);
        }
}

void co_maybe_yield(void)
{
        if (S.current && rnd(16) == 0)
                co_sleep(rnd(64) == 0 ? rnd_between(1, 3000) * SIM_MS : rnd_between(1, 200) * SIM_US);
}

/* --- processes --- */

struct proc *proc_new(struct host *host, const char *what)
{
        struct proc *p = calloc(1, sizeof(*p));

        assert(p);
        p->host = host;
        p->what = what;
        p->id = ++S.n_procs;
        p->next = S.procs;
        S.procs = p;
        return p;
}

void proc_kill(struct proc *p)
{
        bool own = false;

        p->dead = true;
        for (size_t k = S.n_all; k-- > 0;) {
                struct co *c = S.all[k];

                if (c->proc != p)
                        continue;
                if (c == S.current)
                        own = true;
                else
                        co_release(c);
        }
        if (own) {
                co_release(S.current);
                to_main(NULL);
        }
}

uint64_t *co_note(void)
{
        return &S.current->note;
}

struct proc *proc_current(void)
{
        return S.current ? S.current->proc : NULL;
}

struct host *host_current(void)
{
        return S.current ? S.current->proc->host : NULL;
}

/* --- the run --- */

void sched_init(uint64_t seed)
{
        while (S.n_all > 0)
                co_release(S.all[S.n_all - 1]);
        while (S.procs) {
                struct proc *p = S.procs;

                S.procs = p->next;
                free(p);
        }
        S.now = 0;
        S.steps = 0;
        S.trace = 0xcbf29ce484222325;
        S.n_heap = 0;
        S.numbers = 0;
        S.n_procs = 0;
        S.stop = false;
        S.current = NULL;
        for (int i = 0; i < 4; i++) {
                uint64_t z = (seed += 0x9e3779b97f4a7c15);

                z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
                z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
                S.random[i] = z ^ (z >> 31);
        }
}

static void step(struct due *d)
{
        struct co *c = d->co;

        S.now = d->time > S.now ? d->time : S.now;
        if (c) {
                if (c->serial != d->serial || !c->proc)
                        return;
                if (c->proc->paused_until > S.now) {
                        heap_push((struct due){.time = c->proc->paused_until + rnd_between(0, 100) * SIM_US,
                                               .co = c,
                                               .serial = c->serial});
                        return;
                }
        }
        S.steps++;
        S.trace = (S.trace ^ (uint64_t)S.now ^ (c ? c->number << 40 : 0)) * 0x100000001b3;
        if (!c) {
                d->fn(d->arg);
                return;
        }
        c->timed_out = c->channel != NULL;
        c->channel = NULL;
        S.current = c;
        FIBER_START(&S.main_fake, c->stack, STACK_SIZE);
        swapcontext(&S.main, &c->context);
        FIBER_FINISH(S.main_fake, NULL, NULL);
        S.current = NULL;
}

void sched_run(void)
{
        while (!S.stop && S.n_heap > 0) {
                struct due d = heap_pop();

                step(&d);
        }
}

void sched_stop(void)
{
        S.stop = true;
        if (S.current)
                co_sleep(SIM_S); /* never comes back: nothing runs any more */
}

int64_t sched_now(void)
{
        return S.now;
}

uint64_t sched_steps(void)
{
        return S.steps;
}

uint64_t sched_trace(void)
{
        return S.trace;
}
