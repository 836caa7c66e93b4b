/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The parts of the lock driver. It lives inside libvirtd and shares nothing with the rest of Wherry but the
 * socket to hostd: what it links, libvirtd carries. A refusal's reason goes into a caller's buffer of
 * REASON_LEN bytes.
 */
#define REASON_LEN 512
#define PATH_LEN 512
#define KEY_LEN 256

#define GATE_SOCKET "/run/wherry/gate.sock"

/* settings.c: the environment first, then "name = value" lines of libvirt's qemu-wherry.conf, then the
 * defaults. */
struct settings {
        char gate[108]; /* WHERRY_GATE, gate: path of hostd's socket */
        int answer_ms;  /* WHERRY_GATE_ANSWER_MS, answer_ms: how long hostd may take to answer */
        int lock_ms;    /* WHERRY_GATE_LOCK_MS, lock_ms: how long to wait for the second lock */
};
/* file may be NULL or not exist. Returns 0, or -1 with the reason. */
int settings_load(const char *file, struct settings *ret, char reason[REASON_LEN]);

/* ask.c: one question to hostd. Returns 0 for yes; -1 for no and for no answer, with the reason. */
int gate_ask(const char *socket_path, const char *question, const char *uuid, pid_t pid, const char *key,
             int deadline_ms, char reason[REASON_LEN]);

/* hold.c: the second locks that this libvirtd holds, each for one QEMU. All calls from any thread. */
struct holds;
struct holds *holds_new(void);
struct holds *holds_free(struct holds *h); /* gives up all locks; returns NULL */
/* Locks `path` for the QEMU `pid`, waiting at most wait_ms; ret_fresh: it was not held for that QEMU before.
 * The lock goes with holds_drop(), with the QEMU's death, or with this process. */
int holds_take(struct holds *h, const char *path, pid_t pid, int wait_ms, bool *ret_fresh,
               char reason[REASON_LEN]);
void holds_drop(struct holds *h, const char *path, pid_t pid);

/* report.c: the text that libvirt's user is to read; logs it where libvirt offers no way to pass it on. */
void report_refusal(const char *reason);

/* The clock of all deadlines here: milliseconds, monotonic. */
int64_t now_ms(void);
