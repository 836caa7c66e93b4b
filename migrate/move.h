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
        bool mine;   /* the name is this host's */
        bool absent; /* this host has looked, and has no QEMU of the instance */
        bool wanted; /* it should run */
};

/* The name has to be read before the record. */
enum move_verdict move_verdict(const struct move_view *v);

/* Says whether this host is the one that tells the outcome of a request. */
enum move_teller {
        MOVE_NOBODY,  /* not this host, or not yet, or it was told */
        MOVE_GIVE_UP, /* this host, at once: a stop has come before its turn, and nothing of it has begun */
        MOVE_SOURCE, /* this host, once the verdict is there: its hostd has made the move, and knows the figures */
        MOVE_OWNER, /* likewise, without figures: it has the name, and the source may be gone */
};
struct move_outlook {
        bool record;                 /* there is one, and so a request */
        bool own;                    /* this hostd has made the move that was asked for */
        bool told;                   /* its outcome is in the record */
        bool mine;                   /* the name is this host's */
        bool wanted;                 /* it should run */
        bool begun;                  /* an entry was written for it */
        uint64_t asked_epoch, epoch; /* as in move_view */
};
enum move_teller move_teller(const struct move_outlook *o);

/* The source's word has the figures: an owner waits for it for so long before it tells that the move is done. */
#define MOVE_TOLD_MS 5000
bool move_owner_waits(enum move_verdict verdict, int64_t since_ms, int64_t now_ms);
