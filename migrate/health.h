/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What was seen of a guest, and what it means for its life. Pure: same input, same answer. */

/* --- an end: the QEMU is gone --- */

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

/* The last run here is over: by whose wish has to be found out, where nobody has heard. */
struct end_look {
        bool heard; /* libvirt's event told that it powered off */
        bool record_says_running;
        bool ran_at_epoch; /* the record's start is of the name's epoch: it ran here since the last claim */
        bool known;        /* the end at this epoch is our own doing, or was judged before */
};
bool health_end_asks(const struct end_look *l);

/* --- a stop: the QEMU is there, was let run, and its vCPUs stand --- */

enum health_rights { RIGHTS_UNKNOWN, RIGHTS_MINE, RIGHTS_REFUSED }; /* the storage's own answer */
enum health_room {
        ROOM_UNKNOWN,
        ROOM_THERE,
        ROOM_NONE,      /* writes fail */
        ROOM_NONE_WAITS /* writes get no answer until there is room: the vCPUs run, the guest stands */
};

enum health_pause {
        PAUSE_NONE,      /* it runs */
        PAUSE_PASSING,   /* it starts, arrives, or leaves */
        PAUSE_FULL,      /* the storage has no room for its writes */
        PAUSE_ERROR,     /* any other disk error */
        PAUSE_SUSPENDED, /* somebody has suspended it on its host */
        PAUSE_OTHER,     /* libvirt's watchdog, or a crash that was preserved */
        PAUSE_MAX
};
/* For the status and for people: "storage full", "disk error", ... */
const char *health_pause_name(enum health_pause p);
/* reason: libvirt's word for the state; job: a migration is under way. */
enum health_pause health_pause(bool running, bool job, const char *reason, enum health_room room);

/*
 * A guest that a disk error has stopped. It is killed only where the storage itself says that this start may
 * no longer write. While its rights are its own it stands until there is room, or is tried again: after 2 s,
 * 4 s, 8 s ... at most 60 s. Zeroed: no error yet. QEMU's errno decides nothing: its NFS driver reports a
 * server that is full by the same one as a server that refuses.
 */
struct health_stop {
        unsigned errors;  /* in a row */
        int64_t error_ms; /* when the last one was reported */
        int64_t try_ms;   /* the next try */
        bool full;        /* the storage was full at the last look */
        bool asked;       /* its rights were asked for since the last error */
};
/* An error has stopped it. */
void health_stop_error(struct health_stop *s, int64_t now_ms);
/* Are its rights to be asked for at this look? They are when an error is new, and before each try. */
bool health_stop_ask(const struct health_stop *s, enum health_room room, int64_t now_ms);

enum health_verdict { HEALTH_STAND, HEALTH_GO_ON, HEALTH_KILL };
enum health_verdict health_stopped(struct health_stop *s, enum health_rights rights, enum health_room room,
                                   int64_t now_ms);

/*
 * A source that libvirt wanted to run again while no hostd could say yes stays paused, and libvirt does not ask
 * again. Nothing else stands for long without a reason: a start or an arrival runs as soon as it has its yes.
 *
 *   0       seen standing, and neither a disk error, a person nor a migration explains it
 *   5000    HEALTH_STALLED_MS: it has been left standing, and is to go on through the gate
 */
#define HEALTH_STALLED_MS 5000
/* since_ms: since when it stands like that; 0: it does not. Kept by the caller from one look to the next. */
bool health_stalled(int64_t *since_ms, bool running, bool job, const char *reason, int64_t now_ms);

/* --- a crash: the QEMU has ended, and nobody had asked for it --- */

/* What libvirt's word for the end means, for people. */
const char *health_end_name(const char *word);
/* How long the n-th start in a row waits (n from 1): 1 s, 2 s, 4 s ... at most 60 s. */
int64_t health_restart_pause_ms(unsigned n);
/* A run of that length forgives the failures before it. */
#define HEALTH_RUN_LONG_ENOUGH_MS 60000
