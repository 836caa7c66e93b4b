/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/util.h"
#include "formats/internal.h"
#include "formats/ova.h"

/*
 * The manifest of an OVA: a line a file, "SHA256(NAME)= HEX". Its author wrote both, so it proves nothing
 * of who that was; it shows what was damaged on the way. Each file is read once, whatever the lines say.
 */
#define MANIFEST_MAX ((uint64_t)1 << 20)
#define PIECE ((size_t)1 << 20)
#define DIGEST_MAX 64

static const struct algorithm {
        const char *name;
        gnutls_digest_algorithm_t id;
        size_t len;
} algorithms[] = {
    {"SHA1", GNUTLS_DIG_SHA1, 20}, {"SHA256", GNUTLS_DIG_SHA256, 32}, {"SHA512", GNUTLS_DIG_SHA512, 64}};

static int member_digest(const struct source *src, const struct ova_member *m, const struct algorithm *a,
                         char ret[2 * DIGEST_MAX + 1], struct err *err)
{
        _cleanup_(freep) uint8_t *buf = malloc(PIECE);
        uint8_t digest[DIGEST_MAX] = {0};
        gnutls_hash_hd_t hash;
        int r = 0;

        if (!buf || gnutls_hash_init(&hash, a->id) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        for (uint64_t at = 0; at < m->len && r == 0; at += PIECE) {
                size_t n = (size_t)MIN_OF((uint64_t)PIECE, m->len - at);

                r = source_read(src, buf, n, m->offset + at, err);
                if (r == 0 && gnutls_hash(hash, buf, n) < 0)
                        r = err_set(err, -EIO, "%s failed", a->name);
        }
        gnutls_hash_deinit(hash, digest);
        for (size_t i = 0; i < a->len; i++)
                snprintf(ret + 2 * i, 3, "%02x", digest[i]);
        return r;
}

/* Cuts "ALGORITHM(NAME)= HEX" up; false for what is no such line. */
static bool line_parse(char *line, const struct algorithm **ret_algorithm, char **ret_name, char **ret_hex)
{
        char *open = strchr(line, '('), *close = strrchr(line, ')'), *hex;
        size_t n = open ? (size_t)(open - line) : 0;

        while (n > 0 && line[n - 1] == ' ')
                n--;
        if (n == 0 || !close || close < open)
                return false;
        hex = close + 1 + strspn(close + 1, " \t");
        if (*hex++ != '=')
                return false;
        hex += strspn(hex, " \t");
        hex[strcspn(hex, " \t\r")] = '\0';
        *close = '\0';
        *ret_name = open + 1;
        *ret_hex = hex;
        for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
                const struct algorithm *a = &algorithms[i];

                *ret_algorithm = a;
                if (strlen(a->name) == n && strncasecmp(line, a->name, n) == 0)
                        return strlen(hex) == 2 * a->len;
        }
        return false;
}

static int line_check(const struct source *src, const struct ova_archive *a, char *line, bool *seen,
                      struct image_info *info, struct err *err)
{
        const struct algorithm *algorithm;
        const struct ova_member *m;
        char *name, *hex, found[2 * DIGEST_MAX + 1] = "", field[48], clean[36];
        int r;

        if (!line[strspn(line, " \t\r")])
                return 0;
        text_clean(clean, sizeof(clean), (const uint8_t *)line, strlen(line));
        if (!line_parse(line, &algorithm, &name, &hex)) {
                refuse(info, "manifest", "line", clean, "SHA1, SHA256 or SHA512 (FILE)= HEX",
                       "the manifest cannot be read: without its .mf the archive is taken as it is");
                return 0;
        }
        text_clean(clean, sizeof(clean), (const uint8_t *)name, strlen(name));
        m = ova_member_named(a, name);
        if (!m || seen[m - a->members]) {
                refuse(info, "manifest", "file", clean, "each file of the archive once",
                       m ? "the manifest names a file twice" : "a file of the manifest is not there");
                return 0;
        }
        seen[m - a->members] = true;
        r = member_digest(src, m, algorithm, found, err);
        if (r < 0)
                return r;
        snprintf(field, sizeof(field), "%s(%s)", algorithm->name, clean);
        if (strcasecmp(found, hex) != 0 && !CHECKSUMS_IGNORED)
                refuse(info, "manifest", field, found, hex,
                       "the file is not the one that the manifest was made of: it was damaged or exchanged");
        return 0;
}

int ova_manifest_check(const struct source *src, struct image_info *info, struct err *err)
{
        _cleanup_(freep) struct ova_archive *a = calloc(1, sizeof(*a));
        _cleanup_(freep) char *text = NULL;
        bool seen[OVA_MEMBERS_MAX] = {0};
        const struct ova_member *m = NULL;
        size_t before = info->n_refusals;
        char *line, *rest;
        int r;

        if (!a)
                return err_set(err, -ENOMEM, "out of memory");
        r = ova_archive_read(src, a, info, err);
        for (size_t i = 0; i < a->n; i++) {
                size_t n = strlen(a->members[i].name);

                if (n > 3 && strcasecmp(a->members[i].name + n - 3, ".mf") == 0)
                        m = &a->members[i];
        }
        if (r < 0 || !m)
                return r;
        if (m->len > MANIFEST_MAX) {
                refuse_number(info, "manifest", "file size", m->len, MANIFEST_MAX, "it is too large");
                return 0;
        }
        text = calloc(1, (size_t)m->len + 1);
        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        r = source_read(src, text, (size_t)m->len, m->offset, err);
        for (line = strtok_r(text, "\n", &rest); line && r == 0 && info->n_refusals == before;
             line = strtok_r(NULL, "\n", &rest))
                r = line_check(src, a, line, seen, info, err);
        return r;
}
