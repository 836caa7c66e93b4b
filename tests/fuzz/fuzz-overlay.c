/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/packed.h"

/*
 * An instance's overlay as a capture reads it, over a golden image that is smaller than the disk. The input
 * is a packed file (tests/fuzz/packed.h). The record is taken to say what the header says; then extents and
 * reads give the same disk, or both fail.
 */
#define DISK_MAX (8u << 20)
#define BELOW ((3u << 20) + 512)

static int below_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        memset(buf, 0xbe, len);
        return 0;
}

/* False: it cannot be read. */
static bool read_by_extents(struct image *img, uint8_t *ret)
{
        uint64_t size = image_size(img), len;
        bool data;

        for (uint64_t at = 0; at < size; at += len) {
                if (image_extent(img, at, &len, &data, NULL) < 0)
                        return false;
                if (len == 0 || len > size - at)
                        abort();
                if (!data)
                        memset(ret + at, 0, (size_t)len);
                else if (image_read(img, ret + at, (size_t)len, at, NULL) < 0)
                        return false;
        }
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const struct source below = {.size = BELOW, .read = below_read};
        struct packed packed;
        struct source src = packed_source(&packed, data, size);
        struct image *img = NULL;
        uint8_t head[32];
        const char *backing;
        uint64_t disk;

        if (src.size < sizeof(head) || source_read(&src, head, sizeof(head), 0, NULL) < 0)
                return 0;
        backing = get_be64(head + 8) ? "golden.raw" : NULL;
        disk = get_be64(head + 24);
        if (image_open_overlay(&src, disk, backing, backing ? &below : NULL, &img, NULL) < 0)
                return 0;
        if (disk <= DISK_MAX) {
                uint8_t *a = malloc((size_t)disk), *b = malloc((size_t)disk);
                bool readable = a && b && image_read(img, b, (size_t)disk, 0, NULL) == 0;

                if (!a || !b)
                        abort();
                if (readable != read_by_extents(img, a) || (readable && memcmp(a, b, (size_t)disk) != 0))
                        abort();
                free(a);
                free(b);
        }
        image_close(img);
        return 0;
}
