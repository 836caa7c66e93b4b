/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What is seen of a guest, and what it means: pure. */

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
