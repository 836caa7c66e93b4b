/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/store/store.h"
#include "tests/store/faults.h"

/*
 * One suite for all engines. It is told where the store is by the environment (tests/store/run sets it):
 *   STORE_URL  STORE_CEPH_CONF  STORE_CEPH_USER  STORE_ADDRESS  STORE_TIMEOUT_MS
 *   STORE_FAULTS  STORE_PROXY (nfs: "ADDRESS SERVER"; STORE_URL names that address)     see faults.h
 * A store that lives outside this process is also opened twice, used from forked processes and by real QEMU
 * tools.
 */
struct suite {
        struct store *store, *second; /* second: another client of the same store; the same one on mem */
        bool shared;                  /* it lives outside this process */
        bool locks; /* the fence is QEMU's own lock (dir): a second start is refused, not the first one's
                       write */
};

struct suite *suite_of(void **state);
/* By the environment, with its faults; each forked process has its own. */
int store_connect(struct store **ret, struct err *err);

/* What a call returned, with the reason in the test's output when it is not what was expected. */
#define assert_ok(call)                                                                                     \
        do {                                                                                                \
                err = (struct err){};                                                                       \
                int r_ = (call);                                                                            \
                if (r_ < 0)                                                                                 \
                        fail_msg("%s = %d: %s", #call, r_, err_text(&err));                                 \
                assert_int_equal(err.code, 0);                                                              \
        } while (0)
#define assert_fails(code, call)                                                                            \
        do {                                                                                                \
                err = (struct err){};                                                                       \
                int r_ = (call);                                                                            \
                if (r_ != (code))                                                                           \
                        fail_msg("%s = %d (%s), not %d", #call, r_, err_text(&err), code);                  \
                assert_int_not_equal(err.text[0], 0);                                                       \
        } while (0)

#define MIB ((uint64_t)1 << 20)
extern const struct disk_spec plain_disk; /* 64 MiB, no image */

/* Groups of tests, each in a file of its own. */

/* A test, and the engines that it can be put to. One that does not apply is not run, nor reported as passed. */
enum {
        ON_MEM = 1,
        ON_DIR = 2,
        ON_NFS = 4,
        ON_RBD = 8,
        ON_FILES = ON_DIR | ON_NFS,
        ON_SHARED = ON_FILES | ON_RBD, /* what other processes reach */
        ON_ALL = ON_MEM | ON_SHARED,
        NO_FAULTS = 16, /* not in a run with faults */
};
struct engine_test {
        unsigned where;
        struct CMUnitTest test;
};
extern const struct engine_test record_tests[], volume_tests[], lease_tests[], race_tests[], fence_tests[],
    kill_tests[], lost_tests[], client_tests[], twin_tests[], twin_fence_tests[];
extern const size_t n_record_tests, n_volume_tests, n_lease_tests, n_race_tests, n_fence_tests, n_kill_tests,
    n_lost_tests, n_client_tests, n_twin_tests, n_twin_fence_tests;

int run_full(void);   /* a store with little room: STORE_URL */
int run_outage(void); /* a server that is killed under the writer, by the command in STORE_OUTAGE */
int run_late(void);   /* a WRITE that the server holds while the disks change hands; STORE_SERVER_PID */
int run_squash(void); /* an export with root_squash: the self-test must say so */

/* A golden image of `size` bytes that begins with `text`, sealed. */
void image_make(struct store *s, const char *id, uint64_t size, const char *text);
/* Disks at epoch 0. */
void disks_make(struct store *s, const char *instance, const struct disk_spec *disks, size_t n);

/* A real QEMU with one disk open, as a guest has it. */
struct qemu;
/* NULL where it could not open it; then ret_why (freed by the caller) has what it said. */
struct qemu *qemu_open(const struct attach *a, char **ret_why);
int qemu_write(struct qemu *q, uint8_t byte,
               uint64_t offset); /* 4096 bytes and a flush: 0, or -EACCES, or -EIO */
int qemu_verify(struct qemu *q, uint8_t byte, uint64_t offset); /* 0 when 4096 bytes read so */
void qemu_close(struct qemu *q);
void qemu_kill(struct qemu *q);
