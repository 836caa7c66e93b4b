/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * May the record say that this start is the one that was let run last? It says so before the gate's yes, and
 * the change is a compare-and-swap, so of two starts that must not both run the second is told no here,
 * whatever the engine let through. docs/ownership.md, rule 5.
 */
struct start_change {
        const char *stored; /* the record's start, by its id; "": none */
        uint64_t stored_epoch;
        const char *start;
        uint64_t epoch;     /* at which it is to run */
        const char *memory; /* the start whose memory it has; NULL: none's, it begins from the disk */
};
bool start_follows(const struct start_change *c);
