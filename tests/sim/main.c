/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/blind.h"
#include "tests/sim/scale.h"
#include "tests/sim/world.h"

#define JOBS_MAX 64
#define BATCH 200        /* seeds in one process: a killed hostd's memory goes with it */
#define HANG_SECONDS 300 /* of real time, for one seed: it does not end */

int __real_clock_gettime(clockid_t id, struct timespec *ret);

/* Seen by all processes. */
struct board {
        struct stats stats;
        uint64_t done, failed, first_failed, steps;
        double seconds;
};

struct work {
        uint64_t *seeds;
        size_t n;
        unsigned jobs;
        enum sim_break broken;
        bool verbose;
        int64_t until; /* of CLOCK_MONOTONIC, seconds: no seed begins later; 0: all are taken */
        struct board *board;
        uint64_t *current; /* of each worker: an index */
};

static const char *const break_names[BREAK_MAX] = {
    [BREAK_NOTHING] = "nothing",   [BREAK_FENCE] = "fence",       [BREAK_GATE] = "gate",
    [BREAK_CLAIM] = "claim",       [BREAK_CAS] = "cas",           [BREAK_UID] = "uid",
    [BREAK_LOCK] = "lock",         [BREAK_SWITCH] = "switchover", [BREAK_TAKEOVER] = "takeover",
    [BREAK_PROOF] = "proof",       [BREAK_GRACE] = "grace",       [BREAK_PLUG] = "plug",
    [BREAK_IDENTITY] = "identity", [BREAK_RETURN] = "return",     [BREAK_ERRNO] = "errno"};

static void add(struct board *b)
{
        const uint64_t *from = (const uint64_t *)&W.stats;
        uint64_t *to = (uint64_t *)&b->stats;

        for (size_t i = 0; i < sizeof(W.stats) / sizeof(*from); i++)
                __atomic_add_fetch(&to[i], from[i], __ATOMIC_RELAXED);
        __atomic_add_fetch(&b->done, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&b->steps, sched_steps(), __ATOMIC_RELAXED);
}

static void failed(const struct work *w, uint64_t seed, const char *why)
{
        struct board *b = w->board;
        uint64_t none = 0;

        printf("seed %llu: %s\n", (unsigned long long)seed, why);
        if (!w->broken && w->n > 1)
                printf("  tests/sim/run --seed %llu -v\n", (unsigned long long)seed);
        fflush(stdout);
        __atomic_add_fetch(&b->failed, 1, __ATOMIC_RELAXED);
        __atomic_compare_exchange_n(&b->first_failed, &none, seed, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
}

static void one(struct work *w, uint64_t seed)
{
        bool good;

        alarm(HANG_SECONDS);
        good = world_run(seed, w->broken, w->verbose);
        add(w->board);
        if (w->n == 1)
                printf("seed %llu: %s after %lld s, %llu steps, trace %016llx\n", (unsigned long long)seed,
                       good ? "good" : "FAILED", (long long)(sched_now() / SIM_S),
                       (unsigned long long)sched_steps(), (unsigned long long)sched_trace());
        if (!good)
                failed(w, seed, W.violation);
        alarm(0);
}

/* Of the real clock: the wrapped clock_gettime() tells the world's time. */
static int64_t seconds_now(void)
{
        struct timespec now = {0};

        __real_clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec;
}

/* One process: its share of the seeds from `from`, at most a batch. Ends with 0 when there are none left. */
static void worker(struct work *w, unsigned job)
{
        uint64_t *k = &w->current[job];

        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody is left to read what it finds */
        for (unsigned n = 0; n < BATCH && *k < w->n; n++, *k += w->jobs) {
                if ((w->broken && w->board->failed) ||
                    (w->until && seconds_now() >= w->until)) /* found, or enough */
                        *k = w->n;
                else
                        one(w, w->seeds[*k]);
        }
        fflush(stdout);
        _exit(0);
}

static pid_t begin(struct work *w, unsigned job)
{
        pid_t pid;

        fflush(stdout);
        pid = fork();
        if (pid == 0)
                worker(w, job);
        return pid;
}

static int run(struct work *w)
{
        pid_t pids[JOBS_MAX] = {0};
        unsigned running = 0;

        for (unsigned j = 0; j < w->jobs; j++) {
                w->current[j] = j;
                pids[j] = begin(w, j);
                running += pids[j] > 0;
        }
        while (running > 0) {
                int status;
                pid_t pid = wait(&status);

                for (unsigned j = 0; j < w->jobs; j++) {
                        if (pids[j] != pid)
                                continue;
                        running--;
                        if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0) {
                                failed(w, w->seeds[w->current[j]],
                                       WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "does not end"
                                                                                          : "crashed");
                                w->current[j] += w->jobs;
                        }
                        if (w->current[j] < w->n) {
                                pids[j] = begin(w, j);
                                running += pids[j] > 0;
                        }
                }
        }
        return w->board->failed ? 1 : 0;
}

static void report(const struct work *w)
{
        const struct board *b = w->board;
        const struct stats *s = &b->stats;

        printf(
            "%llu seeds, %llu failed; %llu steps, %llu storage operations, %llu writes (%llu refused), %llu "
            "starts, %llu migrations (%llu committed), %llu faults, %llu requests, %llu lifts, %llu "
            "questions asked again, %llu guests cut off\n",
            (unsigned long long)b->done, (unsigned long long)b->failed, (unsigned long long)b->steps,
            (unsigned long long)s->operations, (unsigned long long)s->writes, (unsigned long long)s->refused,
            (unsigned long long)s->starts, (unsigned long long)s->migrations, (unsigned long long)s->commits,
            (unsigned long long)s->faults, (unsigned long long)s->requests, (unsigned long long)s->lifts,
            (unsigned long long)s->again, (unsigned long long)s->shut);
}

static void seeds_add(struct work *w, uint64_t a, uint64_t b)
{
        w->seeds = reallocarray(w->seeds, w->n + (b - a + 1), sizeof(*w->seeds));
        if (!w->seeds)
                abort();
        for (; a <= b; a++)
                w->seeds[w->n++] = a;
}

/* Lines of a seed and a comment. */
static int seeds_read(struct work *w, const char *path)
{
        char text[512];
        FILE *f = fopen(path, "re");

        if (!f) {
                fprintf(stderr, "sim: %s: %s\n", path, strerror(errno));
                return -1;
        }
        while (fgets(text, sizeof(text), f)) {
                unsigned long long seed;

                if (sscanf(text, "%llu", &seed) == 1)
                        seeds_add(w, seed, seed);
        }
        fclose(f);
        return 0;
}

static const char usage[] =
    "usage: sim [--seeds A..B | --seed N | --list FILE | --scale | --blind] [--verbose] [--jobs N] [--break "
    "PART]\n"
    "\n"
    "Runs the real hostd on simulated hosts against an adversarial storage, one world for each seed, and "
    "checks\n"
    "the promises: one writer, nothing lost, no instance forgotten, and as wanted once the faults stop.\n"
    "\n"
    "  --seeds A..B  these (default 1..1000)\n"
    "  --seed N      one; with --verbose its whole story. A seed always gives the same one.\n"
    "  --list FILE   the seeds in a file, one a line\n"
    "  --scale       1,000 hosts with 20,000 instances: storage operations of one host, time to decide\n"
    "  --blind       slow listings and a heartbeat that cannot be read: who dies beside them is seen\n"
    "  --seconds N   no seed begins after so long, by a real clock\n"
    "  --jobs N      processes (default: as many as there are cores)\n"
    "  --break PART  fence, gate, claim, cas, uid, lock, switchover, takeover, plug, proof, grace,\n"
    "                identity or return does not do its work: the\n"
    "                exit status is 0 when one of the seeds notices\n";

static int parse(struct work *w, int argc, char **argv, bool *ret_scale, bool *ret_blind)
{
        static const struct option options[] = {{"seeds", required_argument, NULL, 'r'},
                                                {"seed", required_argument, NULL, 's'},
                                                {"list", required_argument, NULL, 'l'},
                                                {"scale", no_argument, NULL, 'c'},
                                                {"blind", no_argument, NULL, 'B'},
                                                {"seconds", required_argument, NULL, 't'},
                                                {"verbose", no_argument, NULL, 'v'},
                                                {"jobs", required_argument, NULL, 'j'},
                                                {"break", required_argument, NULL, 'b'},
                                                {"help", no_argument, NULL, 'h'},
                                                {0}};
        unsigned long long a, b;
        int o;

        while ((o = getopt_long(argc, argv, "vj:h", options, NULL)) >= 0) {
                if (o == 'r' && sscanf(optarg, "%llu..%llu", &a, &b) == 2 && a <= b)
                        seeds_add(w, a, b);
                else if (o == 's' && sscanf(optarg, "%llu", &a) == 1)
                        seeds_add(w, a, a);
                else if (o == 'l' && seeds_read(w, optarg) == 0)
                        continue;
                else if (o == 'c')
                        *ret_scale = true;
                else if (o == 't' && atoi(optarg) > 0)
                        w->until = seconds_now() + atoi(optarg);
                else if (o == 'B')
                        *ret_blind = true;
                else if (o == 'v')
                        w->verbose = true;
                else if (o == 'j' && atoi(optarg) > 0)
                        w->jobs = MIN_OF((unsigned)atoi(optarg), JOBS_MAX);
                else if (o == 'b') {
                        while (++w->broken < BREAK_MAX && !streq(optarg, break_names[w->broken]))
                                continue;
                        if (w->broken == BREAK_MAX)
                                return -1;
                } else
                        return o == 'h' ? 1 : -1;
        }
        return optind < argc ? -1 : 0;
}

int main(int argc, char **argv)
{
        struct work w = {.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
        bool scale = false, blind = false;
        int r;

        r = parse(&w, argc, argv, &scale, &blind);
        if (r != 0) {
                fputs(usage, r > 0 ? stdout : stderr);
                return r > 0 ? 0 : 2;
        }
        json_object_seed(
            1); /* the order of members is that of insertion; the hash is the only thing random */
        if (scale)
                return scale_run() ? 0 : 1;
        if (blind)
                return blind_run() ? 0 : 1;
        if (w.n == 0)
                seeds_add(&w, 1, 1000);
        w.jobs = MIN_OF(w.jobs, JOBS_MAX);
        w.board = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (w.board == MAP_FAILED)
                return 2;
        w.current = (uint64_t *)(w.board + 1);
        r = run(&w);
        if (w.n > 1)
                report(&w);
        if (w.broken) {
                printf("broken %s: %s\n", break_names[w.broken], r ? "noticed" : "NOT noticed");
                r = !r;
        }
        free(w.seeds);
        return r;
}
