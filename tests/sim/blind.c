/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/blind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "hostd/record.h"
#include "tests/sim/world.h"

/*
 * Four hosts. h3's heartbeat may be unreadable (its object lies in a placement group that is blocked), while
 * h3 itself lives. h2 dies: h1 watches it beside h3, and h4 watches it beside h1.
 */
#define HOSTS 4
#define STUCK 3
#define DEAD 2
#define WARM_NS (20 * SIM_S)
#define LOST_NS (4 * SIM_S)  /* at the latest then h2's record has been won */
#define TOLD_NS (20 * SIM_S) /* at the latest then h1's record names h3 */
#define SEEDS 20

struct blind_case {
        const char *name;
        bool slow_lists, stuck;
};

static json_t *host_record(unsigned number)
{
        char id[12];
        json_t *doc = NULL;

        snprintf(id, sizeof(id), "%u", number);
        world_hold();
        if (record_load(W.store, RECORD_HOST, id, &doc, NULL, NULL) < 0)
                doc = NULL;
        world_release();
        return doc;
}

static bool host_says(unsigned number, const char *state)
{
        _cleanup_(json_decrefpp) json_t *doc = host_record(number);

        return streq(json_get_str(doc, "state", ""), state);
}

static bool host_is_blind_to(unsigned number, unsigned other)
{
        _cleanup_(json_decrefpp) json_t *doc = host_record(number);
        const json_t *list = json_object_get(doc, "blind"), *item;
        size_t i;

        json_array_foreach (list, i, item)
                if (json_get_int(item, "host", -1) == other)
                        return true;
        return false;
}

static int64_t worst_ns;

static void case_main(void *arg)
{
        const struct blind_case *c = arg;
        int64_t begun;

        for (unsigned k = 0; k < HOSTS; k++)
                host_power_on(&W.hosts[k]);
        co_sleep(WARM_NS + (int64_t)rnd(3000) * SIM_MS);
        W.slow_lists = c->slow_lists;
        W.stuck_beat = c->stuck ? STUCK : 0;
        co_sleep(TOLD_NS + (int64_t)rnd(3000) * SIM_MS);
        if (c->stuck && !host_is_blind_to(1, STUCK))
                violated("h1 cannot read the heartbeat of h%u and does not say so", STUCK);
        begun = sched_now();
        host_power_off(&W.hosts[DEAD - 1]);
        while (!host_says(DEAD, "dead") && sched_now() - begun < LOST_NS)
                co_sleep(10 * SIM_MS);
        if (!host_says(DEAD, "dead"))
                violated("h%u lost power, and after %lld ms nobody has taken it over", DEAD,
                         (long long)((sched_now() - begun) / SIM_MS));
        worst_ns = MAX_OF(worst_ns, sched_now() - begun);
        W.stuck_beat = 0;
        co_sleep(TOLD_NS);
        if (host_is_blind_to(1, STUCK))
                violated("h1 reads the heartbeat of h%u again and does not say so", STUCK);
        sched_stop();
}

static bool one_case(struct blind_case *c)
{
        worst_ns = 0;
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
                world_new(seed, HOSTS, 0);
                W.kind = FENCE_NFS;
                W.quiet = true;
                W.drop = W.late = W.slow = 0;
                co_spawn(W.root, case_main, c);
                sched_run();
                if (W.violation[0]) {
                        printf("%s: seed %llu: %s\n", c->name, (unsigned long long)seed, W.violation);
                        return false;
                }
        }
        printf("%s: taken over after %.2f s at most\n", c->name, (double)worst_ns / SIM_S);
        return true;
}

bool blind_run(void)
{
        struct blind_case cases[] = {{.name = "all as it should be"},
                                     {.name = "listings of 1 to 3 s", .slow_lists = true},
                                     {.name = "a heartbeat that nobody can read", .stuck = true},
                                     {.name = "both", .slow_lists = true, .stuck = true}};
        bool good = true;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                good &= one_case(&cases[i]);
        W.slow_lists = false;
        W.stuck_beat = 0;
        return good;
}
