/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "common/err.h"

/* What a caller wants of a new instance: the body of POST /v1/instances, checked. Strings are borrowed from
 * the body. */
struct spec {
        const char *name, *image, *iso; /* one of image and iso; id or name */
        unsigned cpus;
        uint64_t memory, disk; /* bytes; disk 0: as large as the image */
        const json_t *ssh_keys;
        const char *user_data; /* or NULL */
        int priority;
        const char *group;  /* no two of an owner's group on one host; or NULL */
        const json_t *host; /* number or name, or NULL */
};

#define SPEC_CPUS_MAX 256
#define SPEC_MEMORY_MIN (16ULL << 20)
#define SPEC_MEMORY_MAX (16ULL << 40)
#define SPEC_DISK_MIN (1ULL << 20)
#define SPEC_DISK_MAX (16ULL << 40)
#define SPEC_KEYS_MAX 64
#define SPEC_USER_DATA_MAX (64 * 1024)

/* -EINVAL with the member, the value and the limit. */
int spec_parse(const json_t *body, struct spec *ret, struct err *err);
/* `what` begins the error: "name". Groups follow the same rule. */
int spec_name_check(const char *what, const char *name, struct err *err);
/* One line of an authorized_keys file: "TYPE BASE64 [comment]". */
int spec_key_check(const char *key, struct err *err);
