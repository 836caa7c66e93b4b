/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/formats.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"

/* Layout and offsets: docs/formats/iso9660.md. */
#define SECTOR 2048u
#define PATH_TABLE_LEN 10u
#define FILES_MAX 64u
#define FILE_MAX (16u << 20)
#define NAME_MAX_LEN 64u
#define BLOCKS_MIN                                                                                          \
        64u /* 128 KiB: who probes a disk for file systems reads up to there, and some give up at its end   \
             */
#define PRIMARY_NAME_MAX 24u
enum {
        AT_PRIMARY = 16,
        AT_JOLIET,
        AT_TERMINATOR,
        AT_PATHS,
        AT_PATHS_JOLIET = AT_PATHS + 2,
        AT_ROOT = AT_PATHS + 4
};

struct entry {
        const struct iso_file *file;
        uint32_t block;
        char primary[PRIMARY_NAME_MAX + 24];
};

struct iso {
        struct entry entries[FILES_MAX];
        size_t n;
        uint32_t root, root_len, joliet, joliet_len; /* block, bytes */
        uint32_t blocks;
        uint8_t *out; /* NULL while the directories are only measured */
};

static uint32_t sectors(size_t len)
{
        return (uint32_t)((len + SECTOR - 1) / SECTOR);
}

static int name_check(const char *name, struct err *err)
{
        size_t len = strlen(name);

        if (len == 0 || len > NAME_MAX_LEN || name[0] == '.')
                return err_set(err, -EINVAL, "file name \"%s\": 1 to %u characters, not a dot first", name,
                               NAME_MAX_LEN);
        for (size_t i = 0; i < len; i++)
                if (!isascii(name[i]) || !(isalnum((unsigned char)name[i]) || strchr("._-", name[i])))
                        return err_set(err, -EINVAL,
                                       "file name \"%s\": only letters, digits, '.', '_' and '-'", name);
        return 0;
}

/* The name for readers that know neither Rock Ridge nor Joliet: capitals, digits and '_', a dot, a version.
 * The index tells names apart that would be equal. */
static void primary_name(struct entry *e, size_t index, bool unique)
{
        const char *name = e->file->name;
        size_t n = 0, max = unique ? PRIMARY_NAME_MAX : PRIMARY_NAME_MAX - 3;

        for (; name[n] && n < max; n++)
                e->primary[n] =
                    isalnum((unsigned char)name[n]) ? (char)toupper((unsigned char)name[n]) : '_';
        if (unique)
                snprintf(e->primary + n, sizeof(e->primary) - n, ".;1");
        else
                snprintf(e->primary + n, sizeof(e->primary) - n, "%03zu.;1", index);
}

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct entry *)a)->file->name, ((const struct entry *)b)->file->name);
}

static int by_primary(const void *a, const void *b)
{
        return strcmp(((const struct entry *)a)->primary, ((const struct entry *)b)->primary);
}

/* A date that never changes: equal files give an equal image. */
static void put_date(uint8_t *p)
{
        static const uint8_t date[7] = {80, 1, 1, 0, 0, 0, 0};

        memcpy(p, date, sizeof(date));
}

/* A directory record; extra is the system use area. Returns its length; writes nothing where rec is NULL. */
static size_t put_record(uint8_t *rec, uint32_t block, uint32_t len, bool folder, const uint8_t *name,
                         size_t name_len, const uint8_t *extra, size_t extra_len)
{
        size_t extra_at = 33 + name_len + (name_len % 2 == 0);
        size_t total = extra_at + extra_len + (extra_at + extra_len) % 2;

        if (!rec)
                return total;
        rec[0] = (uint8_t)total;
        put_both32(rec + 2, block);
        put_both32(rec + 10, len);
        put_date(rec + 18);
        rec[25] = folder ? 2 : 0;
        put_both16(rec + 28, 1);
        rec[32] = (uint8_t)name_len;
        memcpy(rec + 33, name, name_len);
        if (extra_len > 0)
                memcpy(rec + extra_at, extra, extra_len);
        return total;
}

/* Rock Ridge: mode and owner, and for a file its name; the root's first record also says that Rock Ridge is
 * in use. */
static size_t put_rock_ridge(uint8_t *p, const char *name, bool announce)
{
        static const char id[] = "RRIP_1991A";
        uint8_t *start = p;

        if (announce) {
                static const uint8_t sp[7] = {'S', 'P', 7, 1, 0xbe, 0xef, 0};

                memcpy(p, sp, sizeof(sp));
                p += sizeof(sp);
        }
        memset(p, 0, 36);
        memcpy(p, "PX\x24\x01", 4);
        put_both32(p + 4, name ? 0100444 : 040555);
        put_both32(p + 12, name ? 1 : 2);
        p += 36;
        if (announce) {
                memcpy(p, "ER", 2);
                p[2] = 8 + sizeof(id) - 1;
                p[3] = 1;
                p[4] = sizeof(id) - 1;
                p[5] = p[6] = 0;
                p[7] = 1;
                memcpy(p + 8, id, sizeof(id) - 1);
                p += 8 + sizeof(id) - 1;
        }
        if (name) {
                size_t len = strlen(name);

                memcpy(p, "NM", 2);
                p[2] = (uint8_t)(5 + len);
                p[3] = 1;
                p[4] = 0;
                memcpy(p + 5, name, len);
                p += 5 + len;
        }
        return (size_t)(p - start);
}

/* Writes (or measures) the root directory, as whole sectors. Returns its bytes. */
static uint32_t put_folder(struct iso *iso, bool joliet)
{
        uint32_t block = joliet ? iso->joliet : iso->root, len = joliet ? iso->joliet_len : iso->root_len;
        uint8_t *base = iso->out ? iso->out + (size_t)block * SECTOR : NULL;
        uint8_t extra[160], name[2 * NAME_MAX_LEN];
        size_t at = 0;

        for (uint8_t dot = 0; dot < 2; dot++) {
                size_t n = joliet ? 0 : put_rock_ridge(extra, NULL, dot == 0);

                at += put_record(base ? base + at : NULL, block, len, true, &dot, 1, extra, n);
        }
        qsort(iso->entries, iso->n, sizeof(iso->entries[0]), joliet ? by_name : by_primary);
        for (size_t i = 0; i < iso->n; i++) {
                const struct entry *e = &iso->entries[i];
                size_t n_extra = joliet ? 0 : put_rock_ridge(extra, e->file->name, false), n_name, size;

                n_name = strlen(joliet ? e->file->name : e->primary);
                for (size_t k = 0; joliet && k < n_name; k++)
                        put_be16(name + 2 * k, (uint16_t)e->file->name[k]);
                if (joliet)
                        n_name *= 2;
                else
                        memcpy(name, e->primary, n_name);
                size = put_record(NULL, 0, 0, false, name, n_name, extra, n_extra);
                if (at % SECTOR + size > SECTOR)
                        at += SECTOR - at % SECTOR;
                put_record(base ? base + at : NULL, e->block, (uint32_t)e->file->len, false, name, n_name,
                           extra, n_extra);
                at += size;
        }
        return sectors(at) * SECTOR;
}

/* Fills an identifier field with text and the format's blanks. */
static void put_text(uint8_t *p, size_t room, const char *text, bool joliet)
{
        size_t len = strlen(text);

        for (size_t i = 0; i < room; i++) {
                if (!joliet)
                        p[i] = i < len ? (uint8_t)text[i] : ' ';
                else if (i % 2 == 0)
                        p[i] = 0;
                else
                        p[i] = i / 2 < len ? (uint8_t)text[i / 2] : ' ';
        }
        if (joliet && room % 2)
                p[room - 1] = 0;
}

static void put_descriptor(struct iso *iso, const char *volume, bool joliet)
{
        uint8_t *d = iso->out + (size_t)(joliet ? AT_JOLIET : AT_PRIMARY) * SECTOR;
        uint32_t paths = joliet ? AT_PATHS_JOLIET : AT_PATHS, root = joliet ? iso->joliet : iso->root;

        d[0] = joliet ? 2 : 1;
        memcpy(d + 1, "CD001\x01", 6);
        put_text(d + 8, 32, "", joliet);
        put_text(d + 40, 32, volume, joliet);
        put_both32(d + 80, iso->blocks);
        if (joliet)
                memcpy(d + 88, "%/E", 3);
        put_both16(d + 120, 1);
        put_both16(d + 124, 1);
        put_both16(d + 128, SECTOR);
        put_both32(d + 132, PATH_TABLE_LEN);
        put_le32(d + 140, paths);
        put_be32(d + 148, paths + 1);
        put_record(d + 156, root, joliet ? iso->joliet_len : iso->root_len, true, (const uint8_t *)"", 1,
                   NULL, 0);
        put_text(d + 190, 623, "", joliet);
        for (int i = 0; i < 4; i++) /* four dates, "not specified" */
                memcpy(d + 813 + 17 * i, "0000000000000000", 17);
        d[881] = 1;
        put_le32(iso->out + (size_t)paths * SECTOR + 2, root);
        put_be32(iso->out + (size_t)(paths + 1) * SECTOR + 2, root);
        for (uint32_t t = paths; t < paths + 2; t++)
                iso->out[(size_t)t * SECTOR] = 1; /* length of the root's name */
        put_le16(iso->out + (size_t)paths * SECTOR + 6, 1);
        put_be16(iso->out + (size_t)(paths + 1) * SECTOR + 6, 1);
}

static int entries_init(struct iso *iso, const struct iso_file *files, size_t n_files, struct err *err)
{
        for (size_t i = 0; i < n_files; i++) {
                int r = name_check(files[i].name, err);

                if (r < 0)
                        return r;
                if (files[i].len > FILE_MAX)
                        return err_set(err, -EFBIG, "file \"%s\" of %zu bytes, limit %u", files[i].name,
                                       files[i].len, FILE_MAX);
                for (size_t k = 0; k < i; k++)
                        if (strcmp(files[k].name, files[i].name) == 0)
                                return err_set(err, -EEXIST, "file name \"%s\" comes twice", files[i].name);
                iso->entries[i].file = &files[i];
                primary_name(&iso->entries[i], i, true);
                for (size_t k = 0; k < i; k++)
                        if (strcmp(iso->entries[k].primary, iso->entries[i].primary) == 0) {
                                primary_name(&iso->entries[i], i, false);
                                break;
                        }
        }
        iso->n = n_files;
        return 0;
}

int iso_write(const char *volume, const struct iso_file *files, size_t n_files, uint8_t **ret,
              size_t *ret_len, struct err *err)
{
        struct iso iso = {.root = AT_ROOT};
        int r;

        if (n_files > FILES_MAX || strlen(volume) > 16)
                return err_set(err, -EINVAL,
                               "%zu files, volume \"%s\": limits are %u files and 16 characters", n_files,
                               volume, FILES_MAX);
        r = entries_init(&iso, files, n_files, err);
        if (r < 0)
                return r;
        iso.root_len = put_folder(&iso, false);
        iso.joliet = iso.root + iso.root_len / SECTOR;
        iso.joliet_len = put_folder(&iso, true);
        iso.blocks = iso.joliet + iso.joliet_len / SECTOR;
        for (size_t i = 0; i < iso.n; i++) {
                iso.entries[i].block = iso.blocks;
                iso.blocks += sectors(iso.entries[i].file->len);
        }
        iso.blocks = MAX_OF(iso.blocks, BLOCKS_MIN);
        iso.out = calloc(iso.blocks, SECTOR);
        if (!iso.out)
                return err_set(err, -ENOMEM, "out of memory");
        put_descriptor(&iso, volume, false);
        put_descriptor(&iso, volume, true);
        memcpy(iso.out + (size_t)AT_TERMINATOR * SECTOR,
               "\xff"
               "CD001\x01",
               7);
        put_folder(&iso, false);
        put_folder(&iso, true);
        for (size_t i = 0; i < iso.n; i++)
                if (iso.entries[i].file->len > 0)
                        memcpy(iso.out + (size_t)iso.entries[i].block * SECTOR, iso.entries[i].file->data,
                               iso.entries[i].file->len);
        *ret = iso.out;
        *ret_len = (size_t)iso.blocks * SECTOR;
        return 0;
}
