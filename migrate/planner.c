/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/planner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

uint64_t planner_memory(uint64_t memory, unsigned cpus)
{
        return memory + memory / 512 + PLANNER_QEMU_BASE + cpus * PLANNER_QEMU_CPU;
}

void planner_use(struct planner_host *h, unsigned cpus, uint64_t memory)
{
        h->cpus_used += cpus;
        h->memory_used += planner_memory(memory, cpus);
}

static uint64_t memory_free(const struct planner_host *h)
{
        return h->memory > h->memory_used ? h->memory - h->memory_used : 0;
}

static bool avoided(const struct planner_need *need, unsigned host)
{
        for (size_t i = 0; i < need->n_avoid; i++)
                if (need->avoid[i] == host)
                        return true;
        return false;
}

bool planner_fits(const struct planner_host *h, const struct planner_need *need, char *why, size_t n_why)
{
        char wanted[16], there[16];
        uint64_t cpus = (uint64_t)h->cpus * PLANNER_CPU_OVERCOMMIT;
        uint64_t memory = planner_memory(need->memory, need->cpus);

        if (need->not_on && h->number == need->not_on)
                snprintf(why, n_why, "is the one it has to leave");
        else if (!h->alive)
                snprintf(why, n_why, "is not alive");
        else if (h->drained)
                snprintf(why, n_why, "is drained");
        else if (h->cut_off)
                snprintf(why, n_why, "has no network for guests");
        else if (h->cannot_start && h->cannot_start[0])
                snprintf(why, n_why, "can start no guest: %.60s", h->cannot_start);
        else if (avoided(need, h->number))
                snprintf(why, n_why, "has another instance of its group");
        else if (memory_free(h) < memory)
                snprintf(why, n_why, "has %s of memory free, needed are %s with QEMU's own",
                         size_format(memory_free(h), there, sizeof(there)),
                         size_format(memory, wanted, sizeof(wanted)));
        else if (h->cpus_used + (uint64_t)need->cpus > cpus)
                snprintf(why, n_why, "has %u of %u virtual cores in use, needed are %u", h->cpus_used,
                         (unsigned)cpus, need->cpus);
        else
                return true;
        return false;
}

int planner_pick(const struct planner_host *hosts, size_t n_hosts, const struct planner_need *need,
                 struct err *err)
{
        char reasons[384] = "";
        bool named = false;
        int best = -1;

        for (size_t i = 0; i < n_hosts; i++) {
                const struct planner_host *h = &hosts[i];
                char why[96] = "";
                size_t n = strlen(reasons);

                if (need->only && h->number != need->only)
                        continue;
                named = true;
                if (!planner_fits(h, need, why, sizeof(why))) {
                        snprintf(reasons + n, sizeof(reasons) - n, "%shost %s %s", n ? "; " : "", h->name,
                                 why);
                        continue;
                }
                if (best < 0 || memory_free(h) > memory_free(&hosts[best]) ||
                    (memory_free(h) == memory_free(&hosts[best]) && h->number < hosts[best].number))
                        best = (int)i;
        }
        if (best >= 0)
                return best;
        if (need->only && !named)
                return err_set(err, -ENOENT, "no host has the number %u", need->only);
        if (n_hosts == 0)
                return err_set(err, -ENOSPC, "no host has room: no host has joined this store yet");
        return err_set(err, -ENOSPC, "no host has room: %s", reasons);
}
