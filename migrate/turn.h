/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whose turn it is to move. A host sends and takes only so many guests at the same time: each of them slows the
 * others down, and pauses longer at its switchover. The others wait, those that have waited longest go first.
 * Pure; times are clock_ms().
 */

/* One move that is wanted. */
struct turn {
        int64_t since_ms; /* when it began to wait */
        int64_t
            not_before_ms; /* its destination has no turn for it until then: it holds up nobody behind it */
};

/* May `mine`, an element of the n that wait, begin? `leaving` have begun. */
bool turn_leaves(unsigned limit, unsigned leaving, const struct turn *waiting, size_t n, size_t mine,
                 int64_t now_ms);

/* May one more arrive? */
bool turn_arrives(unsigned limit, unsigned arriving);

/* Asks a destination again that had no turn for it. */
#define TURN_AGAIN_MS 1000
