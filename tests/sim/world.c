/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

#define SETTLE_NS (400 * SIM_S) /* back-off is at most 60 s, an orderly end disarms for 60 s */
#define STAY_NS (15 * SIM_S)    /* it has to stay so */

void world_new(uint64_t seed, unsigned n_hosts, unsigned n_instances)
{
        sched_init(seed);
        store_reset();
        W.seed = seed;
        W.n_hosts = W.n_machines = n_hosts;
        W.n_instances = n_instances;
        W.n_disks = 0;
        W.pids = 0;
        W.chaos = W.quiet = W.full = false;
        W.away_since_ns = W.was_away_since_ns = W.back_ns = 0;
        W.chaos = W.quiet = W.slow_lists = false;
        W.stuck_beat = 0;
        W.site_lost = false;
        W.site_back_ns = 0;
        W.held = 0; /* a violation may have ended the world before this one anywhere */
        W.violation[0] = '\0';
        memset(&W.stats, 0, sizeof(W.stats));
        W.outside = (struct host){.name = "world", .powered = true};
        W.root = proc_new(&W.outside, "world");
        for (unsigned i = 1; i <= n_hosts; i++)
                host_init(i, i, "sim:");
}

static void draw(uint64_t seed)
{
        static const unsigned drops[] = {0, 0, 2000, 15000}, lates[] = {0, 300, 3000},
                              slows[] = {0, 1000, 10000, 40000};

        W.kind = seed % FENCE_KIND_MAX;
        W.drop = drops[rnd(ARRAY_SIZE(drops))];
        W.late = lates[rnd(ARRAY_SIZE(lates))];
        W.slow = slows[rnd(ARRAY_SIZE(slows))];
        if (W.broken == BREAK_GRACE || W.broken == BREAK_PROOF) /* nothing is lifted elsewhere */
                W.kind = FENCE_RBD;
        W.faults_ns = rnd_between(20, 80) * SIM_S;
        W.slow_lists = rnd(5) == 0;
        if (rnd(4) == 0)
                host_init(++W.n_machines, 1 + (unsigned)rnd(W.n_hosts), "sim:");
}

static void root_main(void *arg)
{
        char why[128] = "";
        int64_t good = 0, limit;

        for (unsigned i = 0; i < W.n_machines; i++)
                host_power_on(&W.hosts[i]);
        for (unsigned i = 0; i < W.n_instances; i++)
                if (instance_make(i, 1 + (unsigned)rnd(W.n_hosts)) < 0)
                        abort();
        co_spawn(W.root, users_run, NULL);
        co_spawn(W.root, imaged_run, NULL);
        co_spawn(W.root, plug_check_run, NULL);
        co_spawn(W.root, suspenders_run, NULL);
        co_sleep(rnd_between(0, 10) * SIM_S);
        co_spawn(W.root, chaos_run, NULL);
        while (!W.quiet)
                co_sleep(SIM_S);
        limit = sched_now() + SETTLE_NS;
        for (;;) {
                co_sleep(SIM_S);
                if (!world_settled(why, sizeof(why)))
                        good = 0;
                else if (!good)
                        good = sched_now();
                if (good && sched_now() - good >= STAY_NS)
                        sched_stop();
                if (sched_now() > limit)
                        violated("not as wanted %d s after the last fault: %s", (int)(SETTLE_NS / SIM_S),
                                 why);
        }
}

bool world_run(uint64_t seed, enum sim_break broken, bool verbose)
{
        W.verbose = verbose;
        W.broken = broken;
        sched_init(seed);
        unsigned n_hosts = 2 + (unsigned)rnd(3), n_instances = 1 + (unsigned)rnd(3);

        world_new(seed, n_hosts, n_instances);
        draw(seed);
        tell("seed %llu: %s, %u hosts, %u instances, lost %u, late %u, slow %u per million",
             (unsigned long long)seed,
             W.kind == FENCE_NFS   ? "nfs"
             : W.kind == FENCE_DIR ? "dir"
                                   : "rbd",
             n_hosts, n_instances, W.drop, W.late, W.slow);
        co_spawn(W.root, root_main, NULL);
        sched_run();
        return !W.violation[0];
}
