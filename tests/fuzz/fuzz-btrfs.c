/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "imaged/osinfo/helper.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/packed.h"

/* One packed input as a btrfs: whatever is found is text that ends, and no input costs more than the budget
 * of btrfs-tree.c and a superblock. */
#define READ_MAX (UINT64_C(9) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct packed packed;
        struct source src = packed_source(&packed, data, size);
        struct os_release release = {0};
        const char *architecture = NULL;

        if (btrfs_look(&src, &release, &architecture, NULL) < 0 || packed.read_bytes > READ_MAX ||
            !memchr(release.id, '\0', sizeof(release.id)) ||
            !memchr(release.version_id, '\0', sizeof(release.version_id)) ||
            !memchr(release.name, '\0', sizeof(release.name)))
                abort();
        return 0;
}
