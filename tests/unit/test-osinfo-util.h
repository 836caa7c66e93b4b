/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/osinfo/helper.h"
#include "test-formats-util.h"

/* Shared by the tests of the readers of root file systems. */
#define BTRFS_READ_MAX (UINT64_C(9) << 20) /* see BUDGET in btrfs-tree.c */

struct found {
        struct os_release release;
        const char *architecture;
};
struct found btrfs_found(const struct source *src);
/* what: of the case, for the message. architecture NULL: none. */
void found_is(const char *what, const struct found *f, const char *id, const char *version,
              const char *architecture);
