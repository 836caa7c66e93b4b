/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * A destination checks these before it says yes to a move. It names every reason against it at once, so that a
 * person can mend all of them before the next try. Pure.
 */
struct preflight_view {
        bool trusted; /* its heartbeats reach the storage */
        bool leaving; /* it goes down in order */
        bool libvirt; /* answers */
        const char *bridge;
        bool bridge_there, uplink_good;
        const char *accel,
            *guest_accel;            /* "kvm" or "tcg": what this host offers, what the guest runs under */
        bool tls, source_tls;        /* each end's own setting */
        const char *tls_error;       /* why this host cannot receive an encrypted stream; NULL: it can */
        int leftover;                /* process of an earlier QEMU of the instance; 0: none */
        const char *processes_error; /* the processes were not listed; NULL: they were */
        const char *survey_error;    /* likewise the instances on the storage */
        bool group_here;             /* another instance of its group should run here */
};

struct preflight_problem {
        const char *code; /* static */
        char message[512];
};

#define PREFLIGHT_PROBLEMS 16
struct preflight {
        struct preflight_problem problems[PREFLIGHT_PROBLEMS];
        size_t n; /* 0: it may arrive */
};

void preflight_check(const struct preflight_view *v, struct preflight *ret);
/* Adds the answer of admission_check(): r is 0 or its -errno, why its text. */
void preflight_admission(struct preflight *p, int r, const char *why);

/* The same from the source's side: what to do with the destination's answer. */
enum preflight_answer {
        PREFLIGHT_GO,
        PREFLIGHT_WAIT,  /* the only thing in the way is that others arrive: it is asked again */
        PREFLIGHT_REFUSE /* the move has failed */
};
enum preflight_answer preflight_answer(const char *const *codes, size_t n);
