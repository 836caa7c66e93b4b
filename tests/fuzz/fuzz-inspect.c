/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"

/* Inspect, open and read an image; whatever was accepted has to stay inside the bounds. A refused one is
 * read all the same: the source may have been exchanged after its inspection. */
static int memory_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        memcpy(buf, (const uint8_t *)state + offset, len);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct source src = {.size = size, .read = memory_read, .state = (void *)(uintptr_t)data};
        static uint8_t buf[70000];
        struct image_info info;
        struct image *img = NULL;

        if (image_inspect(&src, -1, &info, NULL) < 0)
                abort(); /* this source can always be read */
        info.n_refusals = 0;
        if (image_open(&src, &info, &img, NULL) == 0) {
                uint64_t at = 0, len;
                bool is_data;

                for (int i = 0; i < 64 && at < image_size(img); i++, at += len) {
                        uint64_t left = image_size(img) - at, n;

                        if (image_extent(img, at, &len, &is_data, NULL) < 0)
                                break;
                        if (len == 0 || len > left)
                                abort();
                        n = left < sizeof(buf) ? left : sizeof(buf);
                        image_read(img, buf, (size_t)n, at, NULL);
                }
        }
        image_close(img);
        return 0;
}
