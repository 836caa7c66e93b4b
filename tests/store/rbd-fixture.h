/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/store/conformance.h"

#include "imaged/store/rbd-gate.h"

/* What the rbd engine's own tests begin with. Host A lives at the client's own address, host B is given
 * another one. */
#define OTHER_ADDRESS "192.0.2.7" /* of host B; none of its QEMUs run here */

struct fixture {
        struct store *a, *b;
        struct pool_client *client;
        rados_ioctx_t io;
        char image[UUID_LEN + 1], instance[UUID_LEN + 1];
        struct disk_spec disks[2];
        uint8_t block[4096], seed[4096];
};

#define ok(call)                                                                                            \
        do {                                                                                                \
                struct err err_ = {0}, *err = &err_;                                                        \
                int r_ = (call);                                                                            \
                if (r_ < 0)                                                                                 \
                        fail_msg("%s: %s", #call, err_text(err));                                           \
        } while (0)

#define fails(code, call)                                                                                   \
        do {                                                                                                \
                struct err err_ = {0}, *err = &err_;                                                        \
                int r_ = (call);                                                                            \
                if (r_ != (code))                                                                           \
                        fail_msg("%s: %d (%s), not %d", #call, r_, err_text(err), code);                    \
                assert_true(err->text[0]);                                                                  \
        } while (0)

struct store *open_as(const char *user, const char *address);
int setup(void **state);
int teardown(void **state);
/* What QEMU opens for a disk, under the name that the lease has. */
struct qemu *qemu_start(struct fixture *f, const struct lease *lease, const struct start *start,
                        size_t disk);
void command_as_admin(const char *command); /* JSON, to the monitors */
size_t recorded(const struct fixture *f);   /* clients at the gate */
/* Creates the disks and brings them to where a QEMU of host A runs. */
struct qemu *run_on_a(struct fixture *f, struct lease *lease, struct start *start);
/* A migration's destination that has opened the disk beside it; `start` becomes its. */
struct qemu *arrive_from_a(struct fixture *f, const struct lease *on_a, struct start *start);

#define with_fixture(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
