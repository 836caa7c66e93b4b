/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "imaged/store/store.h"

/* The libvirt domain XML of one start of an instance, and what our lease element in it says. */

/* What a QEMU is, written into its own XML as <lease><lockspace>wherry</lockspace><key>...</key>: the gate
 * trusts nothing else about it. As text: "INSTANCE:EPOCH:START:UID:GID:ATTEMPT", ATTEMPT "-" for a start
 * that is no migration's destination. */
struct domain_lease {
        char instance[UUID_LEN + 1];
        uint64_t epoch; /* of the claim under which it was started; for a destination that of the migration
                           entry */
        struct start start;
        char attempt[UUID_LEN + 1]; /* empty: not a migration's destination */
};
#define DOMAIN_LEASE_KEY_MAX 192
int domain_lease_format(const struct domain_lease *l, char *buf, size_t len);
int domain_lease_parse(const char *key, struct domain_lease *ret, struct err *err);

struct domain_disk {
        struct attach attach;
        char name[16]; /* "disk0" → vda, further writable ones vdb...; read-only ones are CD-ROMs */
};

struct domain_spec {
        const char *instance; /* UUID: the domain's uuid */
        const char *name;     /* the domain's name is "wherry-NAME" */
        unsigned cpus;
        uint64_t memory;                /* bytes */
        bool kvm;                       /* else TCG */
        const char *cpu_model;          /* NULL: libvirt's default for TCG, host-model for kvm */
        const char *machine;            /* NULL: "q35" */
        const char *bridge, *tap, *mac; /* tap: its name on the host; NULL: libvirt's choice */
        const struct domain_disk *disks;
        size_t n_disks;
        bool boot_cdrom_second; /* disk first, then CD-ROM: an installer's ISO boots while the disk is empty
                                 */
        const char *emulator;   /* NULL: libvirt's default */
        const char *rbd_user;   /* with RBD disks: cephx user and the usage name of the libvirt secret that
                                   holds its key */
        const char *rbd_secret;
        const char *lock_path; /* the lease's target: store's lease_lock_path() */
        struct domain_lease lease;
};

/* Disks: cache=none, error_policy=stop, rerror_policy=stop, discard=unmap; a virtio RNG, serial console, VNC
 * on a Unix socket. */
int domain_xml(const struct domain_spec *spec, char **ret, struct err *err);
