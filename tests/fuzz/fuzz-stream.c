/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"

/* Push an image in odd pieces; the sink checks what it is promised. The last byte chooses the format and the
 * pieces. */
#define OUTPUT_MAX (64 << 20) /* keeps one input fast */

struct sunk {
        uint64_t size, written;
        bool began;
};

static int sink_begin(void *state, uint64_t size, struct err *err)
{
        struct sunk *s = state;

        if (s->began || size == 0 || (size != UINT64_MAX && size % 512 != 0))
                abort();
        s->began = true;
        s->size = size;
        return 0;
}

static int sink_data(void *state, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct sunk *s = state;

        if (!s->began || len == 0 || offset > s->size || len > s->size - offset)
                abort();
        s->written += len;
        if (s->written > s->size)
                abort(); /* each offset at most once */
        return s->written > OUTPUT_MAX ? err_set(err, -1, "enough") : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct sunk s = {0};
        struct image_sink sink = {sink_begin, sink_data, &s};
        struct image_stream *st = NULL;
        uint8_t choice = size > 0 ? data[--size] : 0;
        size_t piece = (size_t)1 << (choice >> 3 & 15);
        enum image_format format = (choice & 7) < 6 ? IMAGE_QCOW2 : (choice & 1) ? IMAGE_ISO9660 : IMAGE_RAW;
        int r = image_stream_new(format, choice & 128 ? UINT64_MAX : size, &sink, &st, NULL);

        for (size_t at = 0; r == 0 && at < size; at += piece)
                r = image_stream_push(st, data + at, size - at < piece ? size - at : piece, NULL);
        if (r == 0)
                image_stream_finish(st, NULL, NULL);
        image_stream_free(st);
        return 0;
}
