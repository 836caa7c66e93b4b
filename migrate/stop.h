/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "migrate/health.h"
#include "migrate/instance.h"

/*
 * A guest that is to end: its user wants that, its host goes down, or its host's uplink is dead. Times in ms since
 * it was asked first:
 *
 *   0        its power button is pressed
 *   4000     pressed again, every STOP_ASK_MS: one that boots has not heard the first time
 *   60000    STOP_PATIENCE_MS: it is ended
 *
 * One whose vCPUs stand hears nothing, so it is ended at once; but not where a dead uplink is the only reason. Pure.
 */
#define STOP_PATIENCE_MS 60000
#define STOP_ASK_MS 4000

enum stop_step {
        STOP_WAIT,
        STOP_ASK,     /* press its power button */
        STOP_ENDED,   /* its QEMU has */
        STOP_LOST,    /* its disk is another host's now: the next look ends the QEMU */
        STOP_GIVE_UP, /* it stands, and stays: nobody wants its end [rule 9] */
        STOP_FORCE    /* end its QEMU */
};

/* `force` is part of the last stop or restart that a user asked for, so it says nothing about an end that only the host
 * wants. */
struct stop_view {
        int64_t begun_ms, asked_ms, now_ms; /* asked_ms: when it was asked last; 0: not yet */
        enum wanted wanted;
        bool restart; /* asked for and not done */
        bool force;
        bool leave;   /* its host goes down */
        bool at_once; /* and has no time left */
        bool here;    /* its QEMU is */
        bool lost;    /* the name is another host's */
        bool running; /* its vCPUs */
        enum health_pause pause;
};
enum stop_step stop_step(const struct stop_view *v);
/* Is it ended without being asked? */
bool stop_forced(const struct stop_view *v);
/* Says whether the user who wanted the end when it was decided wants it no more, and its host does not go down. */
bool stop_withdrawn(const struct stop_view *decided, const struct stop_view *now);
