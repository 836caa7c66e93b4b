/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * What has become of a request to move an instance. libvirt's answer does not decide it: that can be lost
 * while the move goes on. The name and the record do, and they are waited for.
 */
enum move_verdict {
        MOVE_OPEN,   /* it may still arrive: nobody is told anything yet */
        MOVE_DONE,   /* its QEMU was let run at the destination */
        MOVE_FAILED, /* it did not arrive, and never will */
};

struct move_view {
        uint64_t asked_epoch; /* the epoch that the request is for */
        unsigned to;          /* its destination */
        bool entry;           /* the record's migration entry is of an attempt for it */
        bool arrived;         /* that attempt's QEMU was let run, says the record */
        uint64_t run_epoch;   /* the newest at which any QEMU was let run, says the record */
        uint64_t epoch;       /* the name */
        unsigned host;
        bool ended; /* seen by the name's owner: no QEMU of the instance is there, so none can arrive */
};

/* The name has to be read before the record. */
enum move_verdict move_verdict(const struct move_view *v);

/* Waits for an outcome that only the source knows the figures of, before somebody else tells it without. */
#define MOVE_TOLD_MS 5000
