/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What was seen of a guest, and what it means for its life. Pure: same input, same answer. */

/*
 * A guest that was asked to power off takes its time: libvirt-guests waits 300 s for it. A press of its
 * power button explains an end that comes within this time, and none that comes later.
 */
#define HEALTH_BUTTON_MS (10 * 60 * 1000)

/* How a run ended, as libvirt's event or its log tells. */
enum end_word {
        END_UNKNOWN,  /* nothing tells: the process is gone */
        END_SIGNAL,   /* QEMU was sent a signal, or told to quit */
        END_POWER_OFF /* the guest's kernel has switched the machine off */
};

struct end_view {
        enum end_word word;
        bool ours;          /* hostd was ending it */
        bool pressed;       /* its power button was pressed from outside */
        int64_t pressed_ms; /* how long before the end that was */
        bool host_leaves;   /* this host is going down in order */
        bool rebooted; /* this host's kernel is another than the one that the run began under: no hostd saw
                          the end, and the old kernel's way down may have been the cause */
};

/*
 * Did the guest end because it wanted to be off? Only then may its record say "stopped". Where that is not
 * known the answer is no: a guest that is started once too often costs less than one that stays off.
 */
bool health_wished_off(const struct end_view *v);
