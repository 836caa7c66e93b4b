/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "formats/bytes.h"
#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"

/*
 * One format (FUZZ_FORMAT) in both ways to read it. The input is a packed file, because images have few
 * interesting bytes far from each other (tests/fuzz/pack.c makes it):
 *
 *   offset 0  u32 LE  size of the file, in units of 512 bytes
 *   record    u32 LE  where its bytes belong, in units of 512 bytes
 *             u16 LE  how many follow
 *
 * Whatever the inspection says, reading stays inside the bounds; what it accepts is the same disk in a
 * stream.
 */
#define FILE_MAX (12u << 20)
#define DISK_MAX (32u << 20)

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

static uint8_t *unpack(const uint8_t *data, size_t size, size_t *ret_len)
{
        size_t len, at = 4;
        uint8_t *file;

        if (size < 4)
                return NULL;
        len = (size_t)get_le32(data) * 512;
        if (len == 0 || len > FILE_MAX)
                return NULL;
        file = calloc(1, len);
        if (!file)
                abort();
        while (at + 6 <= size) {
                uint64_t where = get_le32(data + at) * UINT64_C(512);
                size_t n = get_le16(data + at + 4);

                at += 6;
                n = n < size - at ? n : size - at;
                if (where < len)
                        memcpy(file + where, data + at, n < len - where ? n : len - where);
                at += n;
        }
        *ret_len = len;
        return file;
}

static void read_some(const struct source *src, const struct image_info *info)
{
        struct image_info clean = *info;
        static uint8_t buf[70000];
        struct image *img = NULL;
        uint64_t at = 0, len;
        bool is_data;

        clean.n_refusals = 0;
        if (image_open(src, &clean, &img, NULL) < 0)
                return;
        for (int i = 0; i < 64 && at < image_size(img); i++, at += len) {
                uint64_t left = image_size(img) - at;

                if (image_extent(img, at, &len, &is_data, NULL) < 0)
                        break;
                if (len == 0 || len > left)
                        abort();
                image_read(img, buf, (size_t)(left < sizeof(buf) ? left : sizeof(buf)), at, NULL);
        }
        image_close(img);
}

static void compare(const struct source *src, const struct image_info *info, const uint8_t *file)
{
        size_t size = (size_t)info->virtual_size;
        uint8_t *a = malloc(size), *b = calloc(1, size);
        struct image_sink sink = {sink_begin, sink_data, b};
        struct image_stream *st = NULL;
        struct image *img = NULL;

        if (!a || !b || image_open(src, info, &img, NULL) < 0)
                abort(); /* what was inspected can be opened */
        if (image_read(img, a, size, 0, NULL) == 0 &&
            image_stream_new(info->format, src->size, &sink, &st, NULL) == 0 &&
            image_stream_push(st, file, (size_t)src->size, NULL) == 0 &&
            image_stream_finish(st, NULL, NULL) == 0 && memcmp(a, b, size) != 0)
                abort();
        image_stream_free(st);
        image_close(img);
        free(a);
        free(b);
}

static int discard(void *state, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        uint64_t *left = state;

        if (len > *left)
                return err_set(err, -1, "enough");
        *left -= len;
        return 0;
}

/* A stream of what the inspection refuses. */
static void stream_refused(const uint8_t *file, size_t len)
{
        uint64_t left = DISK_MAX;
        struct image_sink sink = {sink_begin, discard, &left};
        struct image_stream *st = NULL;

        if (image_stream_new(FUZZ_FORMAT, len, &sink, &st, NULL) == 0 &&
            image_stream_push(st, file, len, NULL) == 0)
                image_stream_finish(st, NULL, NULL);
        image_stream_free(st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct source src = {.read = memory_read};
        struct image_info info, quick;
        size_t len = 0;
        uint8_t *file = unpack(data, size, &len);

        if (!file)
                return 0;
        src.size = len;
        src.state = file;
        if (image_inspect(&src, FUZZ_FORMAT, &info, NULL) < 0 ||
            image_inspect_quick(&src, FUZZ_FORMAT, &quick, NULL) < 0)
                abort(); /* this source can always be read */
        if (quick.n_refusals > 0 && info.n_refusals == 0)
                abort();
        if (info.n_refusals > 0)
                stream_refused(file, len);
        if (info.n_refusals == 0 && info.virtual_size <= DISK_MAX)
                compare(&src, &info, file);
        else if (info.virtual_size > 0)
                read_some(&src, &info);
        free(file);
        return 0;
}
