/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "hostd/domain/domain.h"

/*
 * The Unix socket on which the lock driver inside libvirtd asks. Each question has a thread of its own;
 * libvirtd waits, holding the domain's lock: the answer must not need libvirt.
 */
enum gate_question {
        GATE_REGISTER, /* QEMU exists, nothing runs yet */
        GATE_ACQUIRE,  /* just before vCPUs run: may they? */
        GATE_RELEASE,  /* vCPUs were stopped: a hint only */
        GATE_QUESTION_MAX
};
struct gate_request {
        enum gate_question question;
        struct domain_lease lease;
        pid_t pid;        /* of the QEMU, as libvirt gave it; 0 unknown */
        int64_t asked_ns; /* when the driver's connection was taken; clock_ns() */
        bool again;       /* GATE_ACQUIRE: the hostd that was asked first died before it answered */
};
/* Returns 0 for yes, or a -errno for no, with the reason in err (libvirt's user reads it). */
typedef int (*gate_cb)(void *arg, const struct gate_request *req, struct err *err);

struct gate;
int gate_new(const char *socket_path, gate_cb cb, void *arg, struct gate **ret, struct err *err);
struct gate *gate_free(struct gate *g); /* waits for questions being answered; returns NULL */
