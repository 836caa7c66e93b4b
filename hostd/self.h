/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "hostd/context.h"

/* What this host knows of itself. Every thread reads it; the comment names who writes. */
struct self {
        char boot[UUID_LEN + 1];           /* of this kernel; constant */
        atomic_bool quit;                  /* main: an orderly end */
        atomic_bool leaving;               /* main: the host itself is going down in order */
        atomic_bool rescan;                /* any: look at everything now; the scan task clears it */
        atomic_bool virt_connected;        /* libvirt's event thread, scan */
        atomic_int_least64_t virt_lost_ms; /* libvirt's event thread: when the connection was lost */
        atomic_bool secret_due; /* the same: libvirtd was started anew and has forgotten QEMU's key */
        atomic_int_least64_t own_write_ms; /* beat: when the last heartbeat reached the storage */
        atomic_int_least64_t steady_ms;    /* beat: and the first one after the last gap */
        atomic_uint_least64_t epoch;       /* main, hosts: of the own host record */
        atomic_int uplink;                 /* plug: enum uplink */
        atomic_bool superseded;   /* hosts: a newer hostd of this machine has joined: this one ends */
        atomic_bool replaced;     /* hosts: another machine has this host's number: see migrate/identity.h */
        atomic_bool nothing_left; /* scan: replaced, and no QEMU is here any more */
        atomic_int fence; /* self-test: 1 the store's fence holds, 0 it does not: nobody is failed over;
                             negative: not tried yet */
        int ready_told;   /* scan: the record says 1: it can start guests, 2: it cannot; 0: not told yet */
        atomic_int room;  /* room.c: an enum health_room */
        atomic_int_least64_t room_ms; /* and when it was asked for */
};

/* Whether this hostd may start anything: its heartbeats arrive, and its number is its own. */
bool self_trusted(const struct context *ctx);
/* Neither ending nor replaced by another machine: what it has begun goes on. */
bool self_works(const struct context *ctx);
/* Since when libvirt does not answer, by clock_ms(); 0: it does. */
int64_t self_no_libvirt_ms(const struct context *ctx);
/* 0, or -EAGAIN and why this host can start nothing now. */
int self_can_start(const struct context *ctx, struct err *err);
