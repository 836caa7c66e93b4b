/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"

/* Two readers, one truth: an image that passes the inspection and can be read, and that a stream takes too,
 * has to be the same disk. */
#define DISK_MAX (4 << 20)

static int memory_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        memcpy(buf, (const uint8_t *)state + offset, len);
        return 0;
}

static int sink_begin(void *state, uint64_t size, struct err *err)
{
        return 0;
}

static int sink_data(void *state, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        memcpy((uint8_t *)state + offset, buf, len);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct source src = {.size = size, .read = memory_read, .state = (void *)(uintptr_t)data};
        struct image_info info;
        struct image *img = NULL;
        struct image_stream *st = NULL;

        if (image_inspect(&src, -1, &info, NULL) < 0)
                abort();
        if (info.n_refusals == 0 && info.virtual_size <= DISK_MAX) {
                uint8_t *a = malloc((size_t)info.virtual_size), *b = calloc(1, (size_t)info.virtual_size);
                struct image_sink sink = {sink_begin, sink_data, b};

                if (!a || !b || image_open(&src, &info, &img, NULL) < 0 ||
                    image_stream_new(info.format, size, &sink, &st, NULL) < 0)
                        abort();
                if (image_read(img, a, (size_t)info.virtual_size, 0, NULL) == 0 &&
                    image_stream_push(st, data, size, NULL) == 0 &&
                    image_stream_finish(st, NULL, NULL) == 0 && memcmp(a, b, (size_t)info.virtual_size) != 0)
                        abort();
                free(a);
                free(b);
        }
        image_stream_free(st);
        image_close(img);
        return 0;
}
