/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "hostd/context.h"
#include "hostd/gate-socket.h"
#include "hostd/record.h"
#include "migrate/backoff.h"
#include "migrate/instance.h"

/* What the phases of one start took, until its vCPUs are let run: for the receipt of a failover. */
struct start_phases {
        bool failover; /* the record's placement asked for it: a receipt is due */
        int64_t claim_ms, fence_ms;
        int64_t begun_ms;                      /* when libvirt was called, by this host's clock */
        char fence_since[CLOCK_STAMP_LEN + 1]; /* since when the fence is in force */
};

/* The room that this host keeps free for a guest: admission.c. */
struct guest_promise {
        bool held;
        unsigned cpus;
        uint64_t memory;          /* bytes, without QEMU's own */
        int64_t arrives_until_ms; /* a preflight has promised it */
        bool arriving;            /* by a migration; it takes one of the turns to arrive */
};

/* Its turn to leave this host: turn.c. */
struct guest_turn {
        int64_t since_ms;      /* since when it waits; 0: it does not */
        int64_t first_ms;      /* that, while it leaves */
        int64_t not_before_ms; /* its destination has no turn for it until then */
        bool leaving;
};

/* The last start that was tried. */
struct guest_try {
        bool refused, claimed; /* this host has no room for it; the name was claimed for it */
        struct lease at;       /* the name, as the start has left it */
};

/* A move from here whose outcome has not been told yet. */
struct guest_move {
        int64_t serial; /* of the request; 0: none */
        unsigned to;
        char to_name[65];
        struct start start; /* of the destination's QEMU; id empty: it was never announced */
        int64_t begun_ms;
        struct virt_progress figures;
        struct err why; /* what libvirt, or who else, said last */
};

/*
 * One instance that concerns this host, and the thread that keeps it as its record wants it: look, decide,
 * do, look again. Only that thread acts; the gate, events and requests just leave a note and wake it.
 */
struct guest {
        struct context *ctx; /* constant */
        char id[UUID_LEN + 1];

        /* the table's lock */
        char seat[GROUP_LEN + 1]; /* its group, while it starts or runs here; empty: none */
        struct guest_promise promise;
        bool acts;     /* its thread does what may end a QEMU here */
        bool promised; /* an arrival was let in since its thread began its last look */
        struct guest_turn turn;
        bool early, looked; /* found by the first scan of this hostd; its thread has had a look */

        /* lock; never held during a blocking call */
        pthread_mutex_t lock;
        pthread_cond_t woken; /* CLOCK_MONOTONIC */
        bool wake;
        bool powered_off;   /* it ended by its own wish */
        int64_t pressed_ms; /* when its power button was pressed last; 0: not in this run */
        bool ended_event;   /* any end was reported since the flag was cleared */
        char end_word[16];  /* libvirt's word for the last end; empty: none was reported */
        bool io_error;      /* a disk error has stopped it, and it has not run since */
        char io_word[16];   /* QEMU's word for it */
        struct health_stop stop;
        bool ending;               /* we are ending it: an end is not the guest's own */
        bool leave, leave_at_once; /* its host goes down: it is to power off, or to end */
        bool busy;                 /* its thread is at work */
        bool runs;                 /* it was seen running at its last look */
        struct start starting;     /* the start being carried out; id empty: none */
        uint64_t starting_epoch;
        struct start_phases phases; /* of that start */
        pid_t known_pid;            /* the QEMU that was let run */
        int64_t commit_ns;          /* what the commit of its arrival took, until the record says so */
        unsigned gates;             /* questions of the lock driver that are being answered */
        uint64_t gate_serial; /* grows with each: a look during which it has changed is worth nothing */

        /* its own thread */
        int64_t stalled_ms; /* since when its QEMU stands and nobody says why */
        struct backoff backoff;
        char retry_at[CLOCK_STAMP_LEN + 1]; /* backoff.retry_ms for people */
        struct guest_try tried;
        struct placement_watch placed;
        bool ran;              /* a QEMU of ours was seen running and we have not ended it */
        bool crashed;          /* its last run here ended by itself; until the next start */
        char crash[64];        /* and why */
        uint64_t paused_epoch; /* plus one: of the placement for which the next start was put off */
        uint64_t ended_epoch;  /* of a run whose end is our own doing, plus one */
        uint64_t uplink_epoch; /* plus one: at which it was to leave for the network's sake */
        int64_t void_ms;       /* since when a move has arrived here that its source has not told of */
        struct guest_move move;
        char complaint[256]; /* the last failure that was logged: said once */
};

/* What one look found; freed with guest_look_done(). */
struct guest_look {
        struct instance instance;
        bool record;
        struct lease lease;
        struct virt_domain domain;
        struct instance_view view;
        /* for the status */
        const char *state;
        char reason[200]; /* empty: none */
        char error[200];  /* likewise */
        unsigned tries;
};
/* look.c */
int guest_look(struct guest *g, struct guest_look *ret, struct err *err);
void guest_look_done(struct guest_look *l);

/* status.c: what the record's status is to say */
/* Whether it says so; an event for each change that people want to know of. */
void guest_status_look(struct guest *g, struct guest_look *l);
/* Writes it. */
int guest_settle(struct guest *g, const struct guest_look *l, struct err *err);

int guest_new(struct context *ctx, const char *id, struct guest **ret);
struct guest *guest_free(struct guest *g);
void guest_run(void *arg); /* the thread; frees the guest at its end */

/* start.c */
int guest_start(struct guest *g, const struct guest_look *l, struct err *err);
/* After a start that failed, and after its back-off was reckoned: says in the record why, and when the next one
 * comes, or hands it on. news: the reason is another than last time. */
void guest_start_failed(struct guest *g, const struct guest_look *l, bool news, const struct err *why);
int guest_claim(struct guest *g, const struct guest_look *l, struct lease *ret, struct err *err);

/* launch.c: virt_start() with a deadline. -ETIME: libvirt has not started it in time, and it will not run.
 */
int guest_launch(struct guest *g, const char *xml, struct err *err);

/* stop.c */
/* Ends the QEMU at once, in libvirt's eyes too, and waits until the process is gone. */
int guest_kill(struct guest *g, struct err *err);
/* Ends every QEMU process of the instance here, those that libvirtd has forgotten included. -EBUSY: one has
 * not died. */
int guest_kill_processes(struct guest *g, struct err *err);
int guest_stop(struct guest *g, const struct guest_look *l, struct err *err);
/* The domain of one start; `lease` is the name at which it opens its disks, `key` what its own lease element
 * says. */
int guest_xml(struct context *ctx, const struct instance *i, const struct lease *lease,
              const struct domain_lease *key, const char *bridge, char **ret, struct err *err);

/* turn.c */
/* 0: it may leave, until guest_turn_end(); -EAGAIN: it waits, and who is before it. */
int guest_turn_take(struct guest *g, struct err *err);
/* Gives a turn back that cannot be used yet; it waits on as if it had not had it. */
void guest_turn_back(struct guest *g);
/* It has left, or does not want to: the next one's turn. */
void guest_turn_end(struct guest *g);

/* move.c */
int guest_migrate(struct guest *g, const struct guest_look *l, struct err *err);
int guest_reclaim(struct guest *g, const struct guest_look *l, struct err *err);
/* Tells the outcome of a move that was open, or that its source cannot tell. True while one is waited for.
 */
bool guest_move_settle(struct guest *g, const struct guest_look *l);

/* uplink.c: this host has no network for it: it goes elsewhere. True: something was done. */
bool guest_uplink(struct guest *g, const struct guest_look *l);

/* answer.c: the gate's callback; arg is the context */
int guest_gate(void *arg, const struct gate_request *req, struct err *err);

/* record.c: the changes of the record. i: as it was loaded, if possible not long ago. */
struct guest_status {
        const char *state;
        const char *reason; /* of a state that is not as wanted, or NULL */
        const char *error;  /* of a failed start, or NULL */
        unsigned tries;     /* failures in a row that another start follows; 0: none is due */
        const char *next;   /* and when it comes, as a time for people */
        bool restarted;     /* a restart that was asked for is done by it */
};
int guest_record_status(struct context *ctx, const char *id, const struct guest_status *status,
                        const struct lease *mine, struct err *err);
int guest_record_off(struct context *ctx, const char *id, struct err *err);
/* The QEMU that may run from now on: rule 5. fresh: a start from the disk, which is what a restart asked
 * for. phases: of a start from the disk, or
 * NULL; where a failover asked for it, its receipt is written by the same change, so that none runs without
 * one. */
int guest_record_start(struct context *ctx, const struct instance *i, const struct start *start,
                       const struct lease *mine, bool fresh, const struct start_phases *phases,
                       struct err *err);
/* What the commit of a migration to here took. */
int guest_record_commit(struct context *ctx, const char *id, int64_t commit_ns, struct err *err);
int guest_record_entry(struct context *ctx, const struct instance *i, const struct lease *mine,
                       const char *attempt, unsigned destination, const struct start *start,
                       struct err *err);
struct move_outcome {
        int64_t serial;
        bool done;
        const char *error;             /* why, where it is not done */
        int64_t total_ms, downtime_ms; /* -1: not known */
};
/* The move of that serial waits for its turn, and why. Writes only what is new. */
int guest_record_waiting(struct context *ctx, const char *id, int64_t serial, const char *why,
                         struct err *err);
/* Returns 1 when it was told; 0 when the record holds an outcome already that is no worse, or says by now that what is
 * told failed has arrived. */
int guest_record_move(struct context *ctx, const char *id, const struct move_outcome *o, struct err *err);

/* hand-on.c */
/* The failover that this look's placement belongs to, or NULL: a start that somebody else's death asks for.
 */
const json_t *guest_failover(const struct guest_look *l);
/* Its user has named the host that is to start it. */
bool guest_fixed(const struct guest_look *l);
/* Who has tried it since it was to start, or NULL: the failover's, or that of a start that was handed on. */
const json_t *guest_chain(const struct guest_look *l);
/* For so long the host that is named next puts its start off, since as many have failed; ms. */
int64_t guest_chain_pause_ms(const struct guest_look *l);
/* It does not start here, the name being `at`: another host gets it, or this one again where no other fits.
 */
void guest_hand_on(struct guest *g, const struct guest_look *l, const struct lease *at,
                   const struct err *why);
/* The same, for the reasons that instance_decide() knows. */
void guest_give_up(struct guest *g, const struct guest_look *l);
/* After many failed starts the next one is put off, once for each placement. */
void guest_failover_pause(struct guest *g, const struct guest_look *l);

/* admission.c */
/* May it start here? Takes its room and its group's one seat, until a look finds that nothing needs them. 0, -ENOSPC
 * no room, -EEXIST another of its group is here, -EAGAIN ask again. */
int guest_admit(struct guest *g, const struct instance *i, struct err *err);
/* Keeps or gives up room and seat, by what the look found. Returns whether room is kept. */
bool guest_admission_look(struct guest *g, const struct guest_look *l);
/* An action that a look has asked for. False: an arrival was let in beside that look, which is out of date. From here
 * to guest_admission_done(), which is called before each look, too, none is let in where it could be ended. */
bool guest_admission_act(struct guest *g, enum instance_action action);
void guest_admission_done(struct guest *g);
/* A look has ended with r: 0 or -errno. */
void guest_admission_looked(struct guest *g, int r);
