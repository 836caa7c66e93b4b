/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "formats/probe.h"
#include "tests/fuzz/fuzz.h"

/* One input as a disk, as a FAT file system and as an ISO. What is found has to lie inside, and no input may
 * cost more than so many reads. */
#define READS_MAX 100000

struct memory {
        const uint8_t *data;
        unsigned reads;
};

static int memory_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct memory *m = state;

        if (++m->reads > READS_MAX)
                abort();
        memcpy(buf, m->data + offset, len);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct memory m = {.data = data};
        struct source src = {.size = size, .read = memory_read, .state = &m};
        struct partition_table t;
        struct iso_probe iso;
        struct efi efi;

        if (partition_table_read(&src, &t, NULL) == 0)
                for (size_t i = 0; i < t.n; i++) {
                        const struct partition *p = &t.list[i];
                        struct sub_source sub;
                        struct source part = source_part(&sub, &src, p->offset, p->len);

                        if (p->len == 0 || p->offset >= size || p->len > size - p->offset)
                                abort();
                        if (i == 0)
                                fat_efi_look(&part, &efi, NULL);
                }
        fat_efi_look(&src, &efi, NULL);
        iso_probe(&src, &iso, NULL);
        return 0;
}
