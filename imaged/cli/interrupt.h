/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct http_client;

/*
 * Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP) as an error instead of an end, for commands that
 * have something to clean up or to say. A second signal ends the program. The signal's handler needs
 * process-wide state: one client at a time.
 */
void interrupt_catch(
    struct http_client *http); /* http's running call ends with -ECANCELED; NULL: only the flag */
void interrupt_cancels(struct http_client *http); /* from now on, after NULL; also what was caught before */
void interrupt_release(void);
bool interrupted(void);
/* Dies of the signal, where one was caught: a shell's loop around the program ends with it. */
void interrupt_end(void);

/* A bounded wait for something that the server has to be asked about again. */
struct pacer {
        int64_t deadline_ms;
        int64_t begun_ms;
};

/* seconds: how long at most. */
struct pacer pacer_start(int64_t seconds);
/* Waits a little, longer from turn to turn up to half a second. -ETIMEDOUT past the deadline, -ECANCELED
 * after a signal. */
int pacer_wait(struct pacer *p, struct err *err);
