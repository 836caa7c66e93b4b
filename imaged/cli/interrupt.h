/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct http_client;

/*
 * Ctrl-C and SIGTERM as an error instead of an end, for commands that have something to clean up or to say.
 * A second signal ends the program. The signal's handler needs process-wide state: one client at a time.
 */
void interrupt_catch(
    struct http_client *http); /* http's running call ends with -ECANCELED; NULL: only the flag */
void interrupt_release(void);
bool interrupted(void);

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
