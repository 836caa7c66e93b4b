/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/err.h"

/*
 * A pool of worker threads for calls that block (librbd, libnfs, libvirt), beside an event loop that must
 * not. work runs on a worker; done runs on the thread that calls jobs_collect(), which is woken through
 * jobs_fd() (an eventfd, readable when results wait). Jobs are independent: they may run in any order and at
 * the same time.
 */
struct jobs;

int jobs_new(unsigned n_workers, struct jobs **ret, struct err *err);
struct jobs *jobs_free(
    struct jobs *j); /* waits for what runs; queued jobs that have not begun are dropped, done called */
int jobs_fd(struct jobs *j);
/* Any thread. done may be NULL. */
int jobs_add(struct jobs *j, void (*work)(void *arg), void (*done)(void *arg), void *arg);
/* Calls done for what has ended. Only the thread that owns the event loop. */
void jobs_collect(struct jobs *j);
