/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "formats/formats.h"

/*
 * Which operating system is on a disk or an ISO, and what it needs. The looking is done by a helper process
 * of its own, wherry-osinfo, because the content is a stranger's and because libosinfo's database takes
 * 60 MB: the helper has limits on memory and processor time, no network, and no rights; it asks its caller
 * for bytes over a socket, and its answer is checked as the stranger's word that it is.
 */
struct osinfo {
        char id[64];           /* libosinfo's short id, "debian11"; empty: it does not know this one */
        char name[96];         /* "Debian 11" */
        char distro[32];       /* "debian", "windows" */
        char version[32];      /* "11" */
        char type[16];         /* "linux", "windows", or empty */
        char architecture[16]; /* "x86_64" */
        bool bios, uefi;       /* how it can boot */
        uint32_t min_ram;      /* MiB; 0: not known */
        uint32_t min_disk;     /* GiB; 0: not known */
        char from[16];         /* what told it: "media", "volume-id", "os-release", "loader", or empty */
};

/* Nothing at all was found. */
bool osinfo_empty(const struct osinfo *o);

/*
 * Starts the helper and waits for its answer, OSINFO_TIME_MS at most. disk: guest bytes. -EOPNOTSUPP: this
 * was built without it, or the helper is not installed; any other error: the helper did not answer, or ran
 * into its limits. Any thread.
 */
#define OSINFO_TIME_MS 10000
int osinfo_find(const struct source *disk, bool iso, struct osinfo *ret, struct err *err);
/* The same by another helper, within another time. */
int osinfo_find_by(const char *program, int time_ms, const struct source *disk, bool iso, struct osinfo *ret,
                   struct err *err);

/* "bios", "uefi", "bios, uefi" or "". */
const char *osinfo_firmware(const struct osinfo *o);

/* For the wire between the two, and for programs that read our output: absent members are not known. */
json_t *osinfo_json(const struct osinfo *o);
/* A stranger's word: -EBADMSG where a member is not of its kind, too long or has other characters. */
int osinfo_parse(const json_t *j, struct osinfo *ret, struct err *err);
