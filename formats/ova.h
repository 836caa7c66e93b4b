/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"

/* The archive around an OVA's disk. */
#define OVA_MEMBERS_MAX 64u
#define OVA_NAME_LEN 255u

struct ova_member {
        char name[OVA_NAME_LEN + 1]; /* as in the archive, whatever bytes; without "./" before it */
        uint64_t offset, len;
};

struct ova_archive {
        struct ova_member members[OVA_MEMBERS_MAX];
        size_t n;
};

/* Fills *ret, which is zeroed. What is wrong with the archive is a refusal. */
int ova_archive_read(const struct source *src, struct ova_archive *ret, struct image_info *info,
                     struct err *err);
const struct ova_member *ova_member_named(const struct ova_archive *a, const char *name);

/* ova-manifest.c: reads every file that the manifest names, if there is one. A file with another checksum
 * is a refusal. */
int ova_manifest_check(const struct source *src, struct image_info *info, struct err *err);
