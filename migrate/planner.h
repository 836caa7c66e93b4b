/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* Picks a host for an instance. Pure: same input, same answer. */

#define PLANNER_CPU_OVERCOMMIT 4 /* virtual cores per real one; memory is never overcommitted */

struct planner_host {
        unsigned number;
        const char *name;
        bool alive, drained;
        bool cut_off;             /* its guests would have no network */
        const char *cannot_start; /* why it can start no guest now; borrowed; NULL or empty: it can */
        unsigned cpus, cpus_used;
        uint64_t memory, memory_used; /* bytes */
};

/*
 * What an instance takes of its host's memory, in bytes: its own, and what QEMU needs beside it. KubeVirt
 * and oVirt reckon alike: a base for QEMU, its firmware, libraries and video memory, some for the stack and
 * buffers of each virtual core, and the page tables of the guest's memory (1/512).
 */
#define PLANNER_QEMU_BASE (96ULL << 20)
#define PLANNER_QEMU_CPU (8ULL << 20)
uint64_t planner_memory(uint64_t memory, unsigned cpus);

/* Counts one instance as used on h. */
void planner_use(struct planner_host *h, unsigned cpus, uint64_t memory);

struct planner_need {
        unsigned cpus;
        uint64_t memory;       /* bytes, without QEMU's own */
        unsigned only;         /* this host number and no other; 0: any */
        unsigned not_on;       /* any but this; 0: none excluded */
        const unsigned *avoid; /* hosts with another instance of its group: none of these, ever */
        size_t n_avoid;
};

/* Whether it fits; the reason (a short clause) goes to why when it does not. */
bool planner_fits(const struct planner_host *h, const struct planner_need *need, char *why, size_t n_why);

/*
 * The index of the living host with the most free memory that fits, ties to the lowest number. -ENOSPC: none
 * fits, err lists the reason for each; -ENOENT: `only` names no host.
 */
int planner_pick(const struct planner_host *hosts, size_t n_hosts, const struct planner_need *need,
                 struct err *err);
