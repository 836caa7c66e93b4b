/* SPDX-License-Identifier: Apache-2.0 */
#include "test-formats-util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"

static char folder[64];

int work_begin(void **state)
{
        snprintf(folder, sizeof(folder), "/tmp/wherry-formats-XXXXXX");
        return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

int work_end(void **state)
{
        sh("cd / && rm -rf '%s'", folder);
        return 0;
}

void sh(const char *fmt, ...)
{
        char *command = NULL;
        va_list ap;

        va_start(ap, fmt);
        assert_true(vasprintf(&command, fmt, ap) >= 0);
        va_end(ap);
        fflush(NULL);
        if (system(command) != 0)
                fail_msg("failed: %s", command);
        free(command);
}

char *sh_text(const char *fmt, ...)
{
        char *command = NULL, *text = calloc(1, 65536);
        FILE *f;
        size_t n;
        va_list ap;

        va_start(ap, fmt);
        assert_true(vasprintf(&command, fmt, ap) >= 0);
        va_end(ap);
        assert_non_null(text);
        f = popen(command, "r");
        assert_non_null(f);
        n = fread(text, 1, 65535, f);
        text[n] = '\0';
        if (pclose(f) != 0)
                fail_msg("failed: %s\n%s", command, text);
        free(command);
        return text;
}

struct bytes file_load(const char *path)
{
        struct bytes b;
        char *data;
        struct err err = {0};

        if (file_read(path, (size_t)1 << 30, &data, &b.len, &err) < 0)
                fail_msg("%s", err_text(&err));
        b.data = malloc(b.len ? b.len : 1);
        assert_non_null(b.data);
        memcpy(b.data, data, b.len);
        free(data);
        return b;
}

void file_save(const char *path, const void *data, size_t len)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(write_full(fd, data, len), 0);
        close(fd);
}

static int memory_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct bytes *b = state;

        assert_true(offset <= b->len && len <= b->len - offset); /* what formats.h promises to a source */
        memcpy(buf, b->data + offset, len);
        return 0;
}

struct source memory_source(const struct bytes *b)
{
        return (struct source){.size = b->len, .read = memory_read, .state = (void *)(uintptr_t)b};
}

uint32_t random_next(uint32_t *seed)
{
        *seed ^= *seed << 13;
        *seed ^= *seed >> 17;
        *seed ^= *seed << 5;
        return *seed;
}

void disk_make(const char *path, uint64_t size, uint32_t seed)
{
        static uint8_t piece[300 * 1000];
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        for (uint64_t at = 0; at < size;) {
                uint64_t wish = 1 + random_next(&seed) % sizeof(piece), n = MIN_OF(size - at, wish);
                unsigned kind = random_next(&seed) % 4;

                for (size_t i = 0; kind < 2 && i < n; i++)
                        piece[i] =
                            kind == 0 ? (uint8_t)(random_next(&seed) >> 9) : (uint8_t) "Wherry "[i / 64 % 7];
                if (kind == 2)
                        memset(piece, 0, (size_t)n);
                if (kind < 3)
                        assert_int_equal(pwrite(fd, piece, (size_t)n, (off_t)at), (ssize_t)n);
                at += n;
                if (size > 64 << 20) /* large disks are mostly empty */
                        at += random_next(&seed) % (32u << 20);
        }
        close(fd);
}

static bool is_zero(const uint8_t *p, size_t len)
{
        return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

uint8_t *disk_read(const struct source *src, const struct image_info *info, uint32_t seed, struct err *err)
{
        struct image *img = NULL;
        uint8_t *out;
        int r = image_open(src, info, &img, err);

        if (r < 0)
                return NULL;
        assert_true(image_size(img) == info->virtual_size);
        out = malloc(info->virtual_size);
        assert_non_null(out);
        memset(out, 0xee, info->virtual_size);
        for (uint64_t at = 0; r == 0 && at < info->virtual_size;) {
                uint64_t extent = 0, n, wish = 1 + random_next(&seed) % 500000;
                bool data = false;

                r = image_extent(img, at, &extent, &data, err);
                if (r < 0)
                        break;
                assert_true(extent > 0 && extent <= info->virtual_size - at);
                n = MIN_OF(extent, wish);
                if (random_next(&seed) % 4 == 0) /* across the extent's end, too */
                        n = MIN_OF(info->virtual_size - at, n + 70000);
                r = image_read(img, out + at, (size_t)n, at, err);
                if (r == 0 && !data)
                        assert_true(is_zero(out + at, (size_t)MIN_OF(n, extent)));
                at += n;
        }
        image_close(img);
        if (r == 0)
                return out;
        free(out);
        return NULL;
}

struct sunk {
        uint8_t *out, *seen;
        uint64_t size, room;
        bool began;
};

static int sink_begin(void *state, uint64_t size, struct err *err)
{
        struct sunk *s = state;

        assert_false(s->began);
        s->began = true;
        if (size == UINT64_MAX) /* only the end tells */
                size = s->room;
        s->size = size;
        if (size > (uint64_t)1 << 32)
                return err_set(err, -EFBIG, "too large for this test");
        s->out = calloc(1, size);
        s->seen = calloc(1, size / 512 + 1);
        assert_true(s->out && s->seen);
        return 0;
}

static int sink_data(void *state, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct sunk *s = state;

        assert_true(s->began && len > 0);
        assert_true(offset <= s->size && len <= s->size - offset);
        for (uint64_t i = offset / 512; offset % 512 == 0 && i < (offset + len) / 512; i++) {
                assert_int_equal(s->seen[i], 0); /* each offset at most once */
                s->seen[i] = 1;
        }
        memcpy(s->out + offset, buf, len);
        return 0;
}

static uint8_t *stream_sized(const struct source *src, enum image_format format, uint64_t announced,
                             uint32_t seed, uint64_t *ret_size, struct err *err)
{
        struct sunk s = {.room = src->size + 4096};
        struct image_info info = {0};
        struct image_sink sink = {sink_begin, sink_data, &s};
        struct image_stream *st = NULL;
        int r = image_stream_new(format, announced, &sink, &st, err);

        for (uint64_t at = 0; r == 0 && at < src->size;) {
                uint64_t wish = 1 + random_next(&seed) % 100000, n = MIN_OF(src->size - at, wish);
                uint8_t *piece = malloc((size_t)n); /* of exactly this size, for ASan */

                assert_non_null(piece);
                assert_int_equal(source_read(src, piece, (size_t)n, at, NULL), 0);
                r = image_stream_push(st, piece, (size_t)n, err);
                free(piece);
                at += n;
        }
        if (r == 0)
                r = image_stream_finish(st, &info, err);
        image_stream_free(st);
        free(s.seen);
        if (r < 0) {
                free(s.out);
                return NULL;
        }
        *ret_size = announced == UINT64_MAX ? info.virtual_size : s.size;
        return s.out;
}

uint8_t *disk_stream(const struct source *src, enum image_format format, bool size_known, uint32_t seed,
                     uint64_t *ret_size, struct err *err)
{
        return stream_sized(src, format, size_known ? src->size : UINT64_MAX, seed, ret_size, err);
}

uint8_t *disk_stream_sized(const struct source *src, enum image_format format, uint64_t announced,
                           struct err *err)
{
        uint64_t size;

        return stream_sized(src, format, announced, 11, &size, err);
}

bool refused_with(const struct image_info *info, const char *code)
{
        for (size_t i = 0; i < info->n_refusals; i++)
                if (streq(info->refusals[i].code, code))
                        return true;
        return false;
}
