/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/manifest.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/json.h"
#include "imaged/records.h"
#include "imaged/store/store.h"

#define DIGITS MANIFEST_DIGITS
#define ID_LEN (UUID_LEN + 11)

static const uint8_t zeros[64 * 1024];

struct manifest {
        struct store *store;
        char image[UUID_LEN + 1];
        unsigned parts; /* written; reading: all there are */

        /* writing */
        XXH3_state_t *hash;
        size_t fill;       /* bytes of the chunk that is being filled */
        bool hashing;      /* it has data; before that its `fill` zeros are not hashed yet */
        unsigned n_chunks; /* in text */
        size_t n_text;
        char text[MANIFEST_PART * DIGITS + 1];

        /* reading */
        unsigned next;    /* part */
        json_t *part;     /* owns `at` */
        const char *at;   /* the next chunk's */
        unsigned in_part; /* chunks of `part` that were read */
};

static void part_id(const char *image, unsigned part, char ret[ID_LEN + 1])
{
        snprintf(ret, ID_LEN + 1, "%s-%u", image, part);
}

static int manifest_alloc(struct store *s, const char *image, struct manifest **ret, struct err *err)
{
        struct manifest *m = calloc(1, sizeof(*m));

        if (m)
                m->hash = XXH3_createState();
        if (!m || !m->hash) {
                free(m);
                return err_set(err, -ENOMEM, "out of memory");
        }
        m->store = s;
        snprintf(m->image, sizeof(m->image), "%s", image);
        *ret = m;
        return 0;
}

struct manifest *manifest_free(struct manifest *m)
{
        if (!m)
                return NULL;
        json_decref(m->part);
        XXH3_freeState(m->hash);
        free(m);
        return NULL;
}

static void digits_of(XXH128_hash_t hash, char ret[DIGITS + 1])
{
        XXH128_canonical_t c;

        XXH128_canonicalFromHash(&c, hash);
        for (size_t i = 0; i < sizeof(c.digest); i++)
                snprintf(ret + 2 * i, 3, "%02x", c.digest[i]);
}

static bool all_zeros(const uint8_t *p, size_t len)
{
        return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

void manifest_text(const void *chunk, size_t len, char ret[DIGITS + 1])
{
        if (all_zeros(chunk, len))
                strcpy(ret, "-");
        else
                digits_of(XXH3_128bits(chunk, len), ret);
}

/* --- writing --- */

int manifest_new(struct store *s, const char *image, struct manifest **ret, struct err *err)
{
        return manifest_alloc(s, image, ret, err);
}

/*
 * Only where there is none: an upload that was taken for dead and goes on must not change the manifest of
 * the one that followed it. What stands there may be mine, where a reply got lost.
 */
static int part_save(struct manifest *m, struct err *err)
{
        _cleanup_(freep) char *text = str_printf("{\"chunks\":\"%s\"}", m->text), *now = NULL;
        char id[ID_LEN + 1];
        int r;

        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        part_id(m->image, m->parts, id);
        r = record_put(m->store, RECORD_MANIFEST, id, 0, text, NULL, err);
        if (r == -ETIMEDOUT)
                r = record_put(m->store, RECORD_MANIFEST, id, 0, text, NULL, err);
        if (r == -ESTALE && record_get(m->store, RECORD_MANIFEST, id, &now, NULL, NULL) == 0 &&
            streq(now, text))
                r = 0;
        if (r < 0)
                return records_code(r);
        m->parts++;
        m->n_chunks = 0;
        m->n_text = 0;
        m->text[0] = '\0';
        return 0;
}

static int chunk_end(struct manifest *m, struct err *err)
{
        if (m->hashing) {
                digits_of(XXH3_128bits_digest(m->hash), m->text + m->n_text);
                m->n_text += DIGITS;
        } else {
                m->text[m->n_text++] = '-';
                m->text[m->n_text] = '\0';
        }
        m->fill = 0;
        m->hashing = false;
        return ++m->n_chunks == MANIFEST_PART ? part_save(m, err) : 0;
}

static void hash_zeros(struct manifest *m, size_t len)
{
        while (len > 0) {
                size_t n = MIN_OF(len, sizeof(zeros));

                XXH3_128bits_update(m->hash, zeros, n);
                len -= n;
        }
}

int manifest_data(struct manifest *m, const void *buf, size_t len, struct err *err)
{
        const uint8_t *p = buf;

        while (len > 0) {
                size_t n = MIN_OF(len, MANIFEST_CHUNK - m->fill);
                int r;

                if (!m->hashing) {
                        XXH3_128bits_reset(m->hash);
                        hash_zeros(m, m->fill);
                        m->hashing = true;
                }
                XXH3_128bits_update(m->hash, p, n);
                m->fill += n;
                p += n;
                len -= n;
                r = m->fill == MANIFEST_CHUNK ? chunk_end(m, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

int manifest_zeros(struct manifest *m, uint64_t len, struct err *err)
{
        while (len > 0) {
                size_t n = (size_t)MIN_OF(len, (uint64_t)(MANIFEST_CHUNK - m->fill));
                int r;

                if (m->hashing)
                        hash_zeros(m, n);
                m->fill += n;
                len -= n;
                r = m->fill == MANIFEST_CHUNK ? chunk_end(m, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

int manifest_restart(struct manifest *m, struct err *err)
{
        int r = manifest_remove(m->store, m->image, err);

        m->parts = m->n_chunks = 0;
        m->fill = m->n_text = 0;
        m->hashing = false;
        return r;
}

int manifest_finish(struct manifest *m, unsigned *ret_parts, struct err *err)
{
        int r = m->fill > 0 ? chunk_end(m, err) : 0;

        if (r == 0 && m->n_chunks > 0)
                r = part_save(m, err);
        if (r == 0)
                *ret_parts = m->parts;
        return r;
}

int manifest_remove(struct store *s, const char *image, struct err *err)
{
        for (unsigned part = 0;; part++) {
                _cleanup_(freep) char *text = NULL;
                char id[ID_LEN + 1];
                uint64_t version;
                int r;

                part_id(image, part, id);
                r = record_get(s, RECORD_MANIFEST, id, &text, &version, err);
                if (r == -ENOENT)
                        return 0;
                if (r == 0)
                        r = record_put(s, RECORD_MANIFEST, id, version, NULL, NULL, err);
                if (r < 0 && r != -ESTALE && r != -ENOENT) /* those: another removed it */
                        return records_code(r);
        }
}

/* --- reading --- */

int manifest_open(struct store *s, const char *image, unsigned parts, struct manifest **ret, struct err *err)
{
        int r = manifest_alloc(s, image, ret, err);

        if (r == 0)
                (*ret)->parts = parts;
        return r;
}

static int part_load(struct manifest *m, struct err *err)
{
        char id[ID_LEN + 1];
        int r;

        if (m->next == m->parts)
                return err_set(err, -EIO, "image %s: its manifest ends before its disk", m->image);
        part_id(m->image, m->next, id);
        json_decref(take(m->part));
        r = records_load(m->store, RECORD_MANIFEST, id, &m->part, NULL, err);
        if (r == -ENOENT)
                return err_set(err, -EIO, "image %s: part %u of its manifest is lost", m->image, m->next);
        if (r < 0)
                return r;
        m->at = json_get_str(m->part, "chunks", "");
        m->next++;
        m->in_part = 0;
        return 0;
}

int manifest_check(struct manifest *m, const void *chunk, size_t len, struct err *err)
{
        char digits[DIGITS + 1];
        const char *was;
        int r = !m->part || m->in_part == MANIFEST_PART ? part_load(m, err) : 0;

        if (r < 0)
                return r;
        was = m->at;
        if (was[0] != '-' && strnlen(was, DIGITS) < DIGITS)
                return err_set(err, -EIO, "image %s: part %u of its manifest is cut off", m->image,
                               m->next - 1);
        m->at += was[0] == '-' ? 1 : DIGITS;
        m->in_part++;
        if (!chunk)
                return 0;
        if (was[0] == '-')
                return all_zeros(chunk, len);
        digits_of(XXH3_128bits(chunk, len), digits);
        return memcmp(digits, was, DIGITS) == 0;
}
