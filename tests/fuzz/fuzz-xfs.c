/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "imaged/osinfo/helper.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/packed.h"

#define READS_MAX 3200 /* of 16 KiB each, as remote.c asks for them: 50 MiB */

/* One input, a packed file, as an XFS. Whatever it says: the reader comes to an end, having asked for less
 * than the caller gives. What of an image is never read is left out of the corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct packed packed;
        struct source disk = packed_source(&packed, data, size);
        struct os_release release = {0};
        const char *architecture = NULL;

        if (disk.size == 0)
                return 0;
        if (xfs_look(&disk, &release, &architecture, NULL) < 0 || packed.reads > READS_MAX)
                abort();
        return 0;
}
