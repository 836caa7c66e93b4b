/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Detached threads whose end is waited for. */
struct tasks;

int tasks_new(struct tasks **ret);
/* Waits until every task has ended. Returns NULL. */
struct tasks *tasks_free(struct tasks *t);
/* Runs run(arg) on a thread of its own; any thread may call it. */
int task_spawn(struct tasks *t, void (*run)(void *arg), void *arg);
