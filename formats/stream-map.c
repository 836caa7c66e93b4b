/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/internal.h"
#include "formats/map.h"
#include "formats/stream.h"

#define GATHER_MAX ((size_t)16 << 20)
#define RUNS_MAX ((size_t)600 * 1024) /* 14 MiB, and as much again for a moment to order them */
#define PACKED_MAX ((size_t)5 << 20)

/*
 * A stream of blocks. The file's beginning is gathered until header and tables can be read from it, as from
 * a file; then all places of data are known, and the bytes pass by them in the order of the file.
 */
struct run {
        uint64_t host, len; /* bytes of the file; of a packed block: 1, until it is met */
        uint64_t guest;
};

struct stream_map {
        struct image_info *info; /* the stream's */
        struct stream_out *out;
        uint64_t file_size;
        uint8_t *head; /* gathered; NULL once it has been passed on */
        size_t n_head, room;
        size_t next_try; /* gathered bytes that make another try worthwhile */
        struct map map;
        bool opened;
        struct run *runs;
        size_t n_runs, room_runs, met;
        uint64_t at;    /* the place in the file that has been reached */
        uint8_t *carry; /* the packed block that is coming in */
        size_t n_carry;
        bool packed;
        uint64_t expanded;
};

struct stream_map *stream_map_free(struct stream_map *s)
{
        if (!s)
                return NULL;
        map_close(&s->map);
        free(s->head);
        free(s->runs);
        free(s->carry);
        free(s);
        return NULL;
}

int stream_map_new(uint64_t file_size, struct image_info *info, struct stream_out *out,
                   struct stream_map **ret, struct err *err)
{
        struct stream_map *s = calloc(1, sizeof(*s));

        if (!s)
                return err_set(err, -ENOMEM, "out of memory");
        s->info = info;
        s->out = out;
        s->file_size = file_size;
        *ret = s;
        return 0;
}

static int gathered_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct stream_map *s = state;

        /* after the gathering, the head of a packed block is read from what is carried */
        if (s->opened && s->packed && s->n_carry > 0 && offset == s->runs[s->met].host &&
            len <= s->n_carry) {
                memcpy(buf, s->carry, len);
                return 0;
        }
        if (!s->head || offset > s->n_head || len > s->n_head - (size_t)offset)
                return err_set(err, SOURCE_NOT_YET, "these bytes have not come yet");
        memcpy(buf, s->head + offset, len);
        return 0;
}

static int run_add(struct stream_map *s, uint64_t host, uint64_t len, uint64_t guest, struct err *err)
{
        struct run *last = s->n_runs > 0 ? &s->runs[s->n_runs - 1] : NULL;

        if (last && !s->packed && last->host + last->len == host && last->guest + last->len == guest) {
                last->len += len;
                return 0;
        }
        if (s->n_runs == s->room_runs) {
                size_t room = s->room_runs ? s->room_runs * 2 : 256;
                struct run *bigger;

                if (s->n_runs >= RUNS_MAX)
                        return err_set(err, -EBADMSG,
                                       "table-order: the disk is in more than %zu pieces: let `wherry image "
                                       "add` convert the image",
                                       s->n_runs);
                bigger = reallocarray(s->runs, room, sizeof(*bigger));
                if (!bigger)
                        return err_set(err, -ENOMEM, "out of memory");
                s->runs = bigger;
                s->room_runs = room;
        }
        s->runs[s->n_runs++] = (struct run){host, len, guest};
        return 0;
}

static int run_compare(const void *a, const void *b)
{
        const struct run *x = a, *y = b;

        return x->host < y->host ? -1 : x->host > y->host;
}

/* All places of data, in the order of the file; none may be used twice or be a table's. */
static int runs_find(struct stream_map *s, struct err *err)
{
        struct map *m = &s->map;
        uint64_t n_blocks = (m->size - 1) / m->block + 1;
        bool ordered = true;
        int r = 0;

        s->n_runs = 0;
        if (m->ops->reserve)
                r = m->ops->reserve(m, s->info, err);
        if (r < 0 || s->info->n_refusals > 0)
                return r < 0 ? r : refusal_error(s->info, err);
        for (uint64_t b = 0; b < n_blocks;) {
                struct mapping at = {0};

                r = m->ops->lookup(m, b, &at, err);
                if (r < 0)
                        return r;
                if (at.kind == MAPPING_HOLE) {
                        b += MAX_OF(at.blocks, UINT64_C(1));
                        continue;
                }
                s->packed = at.kind == MAPPING_PACKED;
                r = run_add(s, at.host + m->data_offset, s->packed ? 1 : map_block_len(m, b), b * m->block,
                            err);
                if (r < 0)
                        return r;
                b++;
        }
        for (size_t i = 1; i < s->n_runs && ordered; i++)
                ordered = s->runs[i - 1].host <= s->runs[i].host;
        if (!ordered)
                qsort(s->runs, s->n_runs, sizeof(*s->runs), run_compare);
        return 0;
}

static int runs_check(const struct stream_map *s, struct err *err)
{
        for (size_t i = 0; i < s->n_runs; i++) {
                const struct run *run = &s->runs[i];
                uint64_t host = run->host - s->map.data_offset;

                if (host >= s->file_size || run->host + run->len > s->file_size)
                        return err_set(err, -EBADMSG,
                                       "truncated: a table names offset %" PRIu64
                                       ", the file ends at %" PRIu64,
                                       run->host, s->file_size);
                if (i > 0 && s->runs[i - 1].host + s->runs[i - 1].len > host)
                        return err_set(err, -EBADMSG, "overlap: offset %" PRIu64 " is used more than once",
                                       host);
                for (size_t k = 0; k < s->map.n_reserved; k++)
                        if (host < s->map.reserved[k].start + s->map.reserved[k].len &&
                            s->map.reserved[k].start < run->host + run->len)
                                return err_set(err, -EBADMSG,
                                               "overlap: the block at %" PRIu64 " lies in a table", host);
        }
        return 0;
}

/* Tries with what has been gathered. SOURCE_NOT_YET: more is needed. */
static int tables_read(struct stream_map *s, struct err *err)
{
        struct source src = {.size = s->file_size, .read = gathered_read, .state = s};
        struct image_info now = {.format = s->info->format, .file_size = s->file_size};
        int r;

        map_close(&s->map);
        *s->info = now;
        r = map_open(&s->map, &src, true, s->info, err);
        if (r == 0 && s->info->n_refusals > 0)
                r = refusal_error(s->info, err);
        if (r == 0 && s->map.plain)
                r = run_add(s, 0, s->map.size, 0, err);
        else if (r == 0)
                r = runs_find(s, err);
        if (r == 0)
                r = runs_check(s, err);
        if (r == 0)
                s->opened = true;
        return r;
}

/* As much of a packed block as there is; used 0: more is needed than the n bytes. */
static int packed_take(struct stream_map *s, const uint8_t *buf, size_t n, size_t *ret_used, struct err *err)
{
        const struct run *run = &s->runs[s->met];
        uint64_t block = run->guest / s->map.block, len = 12;
        int r;

        if (!s->carry)
                s->carry = malloc(PACKED_MAX);
        if (!s->carry)
                return err_set(err, -ENOMEM, "out of memory");
        *ret_used = 0;
        for (int part = 0; part < 2; part++) { /* first its head, which says how long it is */
                size_t want = (size_t)MIN_OF(len - MIN_OF(len, (uint64_t)s->n_carry), (uint64_t)n);

                memcpy(s->carry + s->n_carry, buf + *ret_used, want);
                s->n_carry += want;
                *ret_used += want;
                n -= want;
                if (s->n_carry < len)
                        return 0;
                r = s->map.ops->packed_len(&s->map, block, run->host, &len, err);
                if (r < 0)
                        return r;
                if (len > PACKED_MAX ||
                    (s->met + 1 < s->n_runs && run->host + len > s->runs[s->met + 1].host))
                        return err_set(err, -EBADMSG,
                                       "overlap: the compressed block at %" PRIu64
                                       " reaches into the next one",
                                       run->host);
        }
        r = s->map.ops->unpack(&s->map, block, s->carry, s->n_carry, err);
        s->expanded += s->map.block;
        if (r == 0 && !expansion_fits(s->expanded, s->file_size))
                r = err_set(err, -EBADMSG, "expansion: the disk is out of proportion to the file");
        if (r == 0)
                r = stream_out_add(s->out, s->map.cluster, (size_t)map_block_len(&s->map, block), run->guest,
                                   err);
        s->n_carry = 0;
        s->met++;
        return r;
}

/* The bytes at s->at, met or skipped. */
static int body(struct stream_map *s, const uint8_t *buf, size_t len, struct err *err)
{
        while (len > 0) {
                struct run *run = s->met < s->n_runs ? &s->runs[s->met] : NULL;
                size_t n = len;
                int r = 0;

                if (run && run->host > s->at) {
                        n = (size_t)MIN_OF((uint64_t)len, run->host - s->at);
                } else if (run && s->packed) {
                        r = packed_take(s, buf, len, &n, err);
                } else if (run) {
                        uint64_t done = s->at - run->host;

                        n = (size_t)MIN_OF((uint64_t)len, run->len - done);
                        r = stream_out_add(s->out, buf, n, run->guest + done, err);
                        s->met += done + n == run->len;
                }
                if (r < 0)
                        return r;
                buf += n;
                len -= n;
                s->at += n;
        }
        return 0;
}

static int gather(struct stream_map *s, const uint8_t *buf, size_t len, struct err *err)
{
        if (s->room - s->n_head < len) {
                size_t room = MAX_OF(s->room * 2, s->n_head + len);
                uint8_t *bigger = realloc(s->head, room);

                if (!bigger)
                        return err_set(err, -ENOMEM, "out of memory");
                s->head = bigger;
                s->room = room;
        }
        memcpy(s->head + s->n_head, buf, len);
        s->n_head += len;
        return 0;
}

/* Begins if the tables have come. */
static int try_begin(struct stream_map *s, bool ended, struct err *err)
{
        _cleanup_(freep) uint8_t *head = NULL;
        struct err why = {0};
        int r = tables_read(s, &why);

        if (r == SOURCE_NOT_YET && !ended && s->n_head < GATHER_MAX) {
                s->next_try = s->n_head * 2;
                return 0;
        }
        if (r == SOURCE_NOT_YET)
                return err_set(
                    err, -EBADMSG,
                    "table-order: the tables do not all lie in the first %zu bytes: let `wherry image "
                    "add` convert the image",
                    s->n_head);
        if (r < 0)
                return err_set(err, r, "%s", err_text(&why));
        s->info->virtual_size = s->map.size;
        r = s->out->sink.begin(s->out->sink.state, s->map.size, err);
        if (r < 0)
                return r;
        head = take(s->head);
        return body(s, head, s->n_head, err);
}

int stream_map_push(struct stream_map *s, const uint8_t *buf, size_t len, struct err *err)
{
        while (!s->opened && len > 0) {
                size_t limit = MAX_OF(s->next_try, (size_t)FORMAT_HEAD_LEN);
                size_t n = MIN_OF(len, limit - s->n_head);
                int r = gather(s, buf, n, err);

                if (r == 0 && s->n_head == limit)
                        r = try_begin(s, s->n_head == s->file_size, err);
                if (r < 0)
                        return r;
                buf += n;
                len -= n;
        }
        return body(s, buf, len, err);
}

int stream_map_finish(struct stream_map *s, const uint8_t *tail, struct err *err)
{
        int r = s->opened ? 0 : try_begin(s, true, err);

        if (r < 0)
                return r;
        if (s->met < s->n_runs)
                return err_set(err, -EBADMSG, "truncated: the block at %" PRIu64 " is not all there",
                               s->runs[s->met].host);
        if (s->map.plain)
                vhd_fixed_end(tail, s->file_size, s->info);
        else if (s->info->format == IMAGE_VHD && !tail_is_vhd(tail))
                refuse(s->info, "footer", "footer", "no cookie", "conectix", "the file is cut");
        else if (s->info->format != IMAGE_VHD && tail_is_vhd(tail))
                refuse(s->info, "polyglot", "magic", "vhd", image_format_name(s->info->format),
                       "the end is that of another format");
        return s->info->n_refusals > 0 ? refusal_error(s->info, err) : 0;
}
