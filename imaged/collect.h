/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/daemon.h"

/*
 * Cleans up, in a thread of its own, what a killed imaged left half-made: uploads, instances, deletions,
 * names, addresses and disks. What does not move for stale_ms by this process's clock is taken for left;
 * every clean-up begins by a compare-and-swap that makes a slow owner's next step fail, so a wrong guess
 * costs a request, never data.
 */
struct collector;

int collector_new(struct imaged *im, struct collector **ret, struct err *err);
struct collector *collector_free(struct collector *c);
/* A host was asked to remove that instance's disks: its name and address are given back as soon as it has.
 * Any thread. */
void collector_watch(struct collector *c, const char *instance);
