/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"

/* hostd.conf, with defaults in place. Strings are owned; NULL where nothing was said and nothing can be
 * guessed. */
struct config {
        char *store_url, *ceph_conf, *ceph_user;
        char *name, *number_text, *address, *storage_address, *accel, *emulator, *libvirt_uri, *peer_uri,
            *bridge;
        char *dhcp_hosts_dir, *gate_socket, *cpus_text, *memory_text;
        char *handover_text;
        char *listen, *token_file;
        char *migration_tls_text, *moves_out_text, *moves_in_text;
        unsigned moves_out, moves_in;
        bool migration_tls;
        unsigned number;     /* 0: find a free one */
        int64_t handover_ms; /* of an orderly shutdown of the host; 0: hand nothing on */
        char *token;         /* read from token_file */
};

int config_load(const char *path, struct config *ret, struct err *err);
void config_done(struct config *c);
void config_help(FILE *f); /* every setting with its default and meaning */
