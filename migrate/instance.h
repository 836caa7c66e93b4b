/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "migrate/health.h"

/*
 * What one host has to do about one instance: a pure function of what is so. hostd looks, asks, does that
 * one thing, and looks again; so a hostd that was killed anywhere just starts over. The rules in brackets
 * are docs/ownership.md's.
 */

enum wanted { WANTED_RUNNING, WANTED_STOPPED, WANTED_DELETED };

enum qemu_state {
        QEMU_NONE,
        QEMU_RUNNING,
        QEMU_PAUSED, /* vCPUs stand still: starting, arriving, or stopped by an I/O error */
};

/* A placement that nobody has claimed by then, after the pause that its host makes, goes to the next host. The
 * one that names the dead owner's heir has a shorter one (FAILOVER_PATIENCE_MS): whoever placed it acts first. */
#define PLACEMENT_PATIENCE_MS 12000
#define LIBVIRT_PATIENCE_MS 10000 /* a libvirtd that is away for less is waited for */
#define STARTS_HERE 3             /* failed ones in a row, then another host has a try */

struct instance_view {
        unsigned me;    /* this host's number */
        bool trusted;   /* this host's heartbeats reach the storage */
        bool replaced;  /* another machine has this host's number: the name "of me" is not this machine's */
        bool leaving;   /* this host goes down in order: nothing starts here any more */
        bool leave;     /* and this guest is to power off here, whatever is wanted */
        int64_t now_ms; /* monotonic */

        /* the name on the storage: rule 1, it alone decides */
        uint64_t epoch;
        unsigned host; /* 0: nobody */

        /* the record */
        bool record; /* there is one */
        enum wanted wanted;
        unsigned placement_host; /* void unless placement_epoch == epoch */
        uint64_t placement_epoch;
        bool restart;     /* asked for and not done */
        bool settled;     /* the record's status says what is so */
        bool told_off;    /* its status says that nothing runs at this epoch */
        unsigned move_to; /* a request to migrate; 0: none. void unless move_epoch == epoch */
        uint64_t move_epoch;
        unsigned entry_source, entry_destination; /* the migration entry; void unless entry_epoch == epoch */
        uint64_t entry_epoch;

        /* the QEMU of this instance on this host */
        enum qemu_state qemu;
        uint64_t qemu_epoch; /* that it was last told it may run at; 0: never */
        bool qemu_of_entry;  /* it is the destination of the migration entry's attempt */
        bool qemu_refused;   /* the storage says that it may no longer write */
        bool qemu_go_on;     /* it stands, and what stopped it may be over */
        enum health_pause pause;
        bool guest_powered_off; /* the guest ended itself since we last wrote the record */

        bool crashed;      /* its last run here ended by itself, and it has not been started since */
        int64_t placed_ms; /* since when the placement of a guest that is mine names another host; 0: it does
                              not */
        int64_t placed_pause_ms; /* and for so long that one puts its start off */
        int64_t no_libvirt_ms;   /* since when libvirt does not answer here; 0: it does */
        unsigned failed_starts;  /* here, in a row */
        bool fixed;              /* its user has named this host */
        int64_t retry_ms;        /* no start before this time: back-off after crashes and failed starts */
};

enum instance_action {
        ACTION_NONE,
        ACTION_FORGET,   /* nothing of this instance is here any more */
        ACTION_KILL,     /* end the QEMU now: it is not, or no longer, the owner's */
        ACTION_NOTE_OFF, /* record that the guest powered itself off: wanted stopped */
        ACTION_START,    /* claim, fence, start, gate [rule 2] */
        ACTION_HAND_ON,  /* place it on another host */
        ACTION_STOP,     /* ask the guest to power off, end it when it does not */
        ACTION_RESTART,  /* STOP, and START follows */
        ACTION_MIGRATE,  /* to move_to */
        ACTION_RESUME,   /* an I/O error's cause is over */
        ACTION_RECLAIM,  /* a running source after a failed migration: claim, fence, so that the destination
                            cannot commit */
        ACTION_REMOVE,   /* take the disks and the record away */
        ACTION_CLAIM,    /* claim only, so that REMOVE or SETTLE may follow */
        ACTION_SETTLE,   /* write what is so into the record's status */
        ACTION_MAX
};
const char *instance_action_name(enum instance_action a);

enum instance_action instance_decide(const struct instance_view *v);
/* It can start nowhere else, its user has named this host, and libvirt has been away here for longer than it is
 * waited for in silence: its status has to say so. */
bool instance_waits_for_libvirt(const struct instance_view *v);

/* Rule 6: is the QEMU here one that was let run before, by whichever hostd? The gate lets that very process go on. */
bool instance_adopts(const struct instance_view *v);
/* ran: a QEMU of ours ran here at the last look. Has it ended, neither by us nor by a migration nor by its own wish? */
bool instance_crashed(const struct instance_view *v, bool ran);

/* Since when the placement of a guest that is mine names another host. Zeroed: it does not. */
struct placement_watch {
        unsigned host;
        uint64_t epoch;
        int64_t since_ms;
};
/* A look; returns the view's placed_ms. */
int64_t placement_look(struct placement_watch *w, const struct instance_view *v);

/*
 * Is the work of a placement still to be done: has nothing run by it yet? True also after the host that it names has
 * claimed by it, maybe more than once. owner, epoch: the name; start_epoch: at which a QEMU was let run last.
 */
bool placement_open(unsigned placement_host, uint64_t placement_epoch, unsigned owner, uint64_t epoch,
                    uint64_t start_epoch);

/*
 * The gate's decision (rules 4 to 7 and migration 4, 5) about a QEMU whose vCPUs are about to run.
 * `known`: this hostd is carrying out the START whose QEMU this is, or it is the very process that was let
 * run before.
 */
enum gate_action {
        GATE_REFUSE,
        GATE_CHECK,   /* yes, if the engine's gate agrees */
        GATE_COMMIT,  /* a migration arrives: claim, fence, then the engine's gate */
        GATE_RECLAIM, /* the source runs on: claim, fence, then the engine's gate */
};
struct gate_view {
        unsigned me;
        uint64_t epoch; /* the name */
        unsigned host;
        unsigned entry_source, entry_destination; /* the migration entry of the record; source 0: none */
        uint64_t entry_epoch;
        bool destination; /* the QEMU's own lease names an attempt that it was never told it may run under */
        bool attempt_equal;  /* and that is the entry's */
        uint64_t qemu_epoch; /* the epoch in its lease, or the newer one that the record holds for this very
                                start */
        bool known;
        bool again;         /* the lock driver asks a second time: the hostd that it asked first has died */
        uint64_t run_epoch; /* the newest at which a QEMU was let run, says the record */
        bool run_last;      /* and that was this very start */
};
/* why: a short clause for the refusal, static. */
enum gate_action gate_decide(const struct gate_view *v, const char **why);
/*
 * A no ends the QEMU, as libvirt might leave it behind, paused. May this one stand all the same, for the next look
 * to decide? Yes where the storage did not answer, and it has run here before: if a claim for a source that runs on was
 * won all the same, the next look claims once more. Yes, too, where it was let run here, at this epoch, by a hostd
 * before this one, which has yet to look at it. unanswered: of what the action needs.
 */
bool gate_spares(const struct gate_view *v, enum gate_action action, bool unanswered);
