/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/ova.h"

/* Offsets: docs/formats/ova.md. An OVA is a tar archive: the OVF description first, then the disk. */
#define BLOCK 512u
#define OVF_MAX ((uint64_t)1 << 20)
#define NAME_FIELD 100u
#define EXTENDED_MAX ((uint64_t)8 << 10) /* of all headers together less than a quick look may read */

/* Octal digits, or big-endian binary with the first bit set. Returns false for what is neither. */
static bool number(const uint8_t *p, size_t len, uint64_t *ret)
{
        uint64_t v = 0;

        if (p[0] & 0x80) {
                if (!bytes_are_zero(p + 1, len - 9) || p[0] != 0x80)
                        return false;
                *ret = get_be64(p + len - 8);
                return true;
        }
        while (len > 0 && *p == ' ')
                p++, len--;
        for (; len > 0 && *p >= '0' && *p <= '7'; p++, len--)
                v = v << 3 | (uint64_t)(*p - '0');
        *ret = v;
        return len == 0 || *p == ' ' || *p == '\0';
}

static bool checksum_fits(const uint8_t *h)
{
        uint64_t sum = 0, want;

        for (size_t i = 0; i < BLOCK; i++)
                sum += i >= 148 && i < 156 ? ' ' : h[i];
        return CHECKSUMS_IGNORED || (number(h + 148, 8, &want) && want == sum);
}

static bool ends_with(const char *name, const char *ending)
{
        size_t n = strlen(name), k = strlen(ending);

        return n >= k && strcasecmp(name + n - k, ending) == 0;
}

/* What an extended header says of the member behind it. */
struct extended {
        char name[OVA_NAME_LEN + 1]; /* empty: nothing */
        uint64_t len;                /* UINT64_MAX: nothing */
};

static void name_set(char ret[OVA_NAME_LEN + 1], const char *text, size_t len)
{
        len = MIN_OF(len, (size_t)OVA_NAME_LEN);
        memcpy(ret, text, len);
        ret[len] = '\0';
}

/* One record of pax, "LENGTH KEY=VALUE\n". Returns its length, 0 for what is none. */
static size_t pax_take(const char *text, size_t room, struct extended *x)
{
        char *end, *value;
        unsigned long long n = strtoull(text, &end, 10);
        const char *last;

        if (*end != ' ' || n > room || n < (size_t)(end - text) + 2)
                return 0;
        last = text + n - 1;
        value = memchr(end, '=', (size_t)(last - end));
        if (*last != '\n' || !value)
                return 0;
        value++;
        if (strncmp(end, " path=", 6) == 0)
                name_set(x->name, value, (size_t)(last - value));
        else if (strncmp(end, " size=", 6) == 0 && *value >= '0' && *value <= '9')
                x->len = strtoull(value, NULL, 10);
        return (size_t)n;
}

/* Where a name is too long for its field or not ASCII, or a file of more than 8 GiB: pax says it in a list
 * of records, GNU tar with the name alone. */
static int extended_read(const struct source *src, const struct ova_member *m, char type, struct extended *x,
                         struct image_info *info, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        size_t at = 0, n, len = (size_t)m->len;
        int r;

        if (m->len > EXTENDED_MAX) {
                refuse_number(info, "archive", "extended header", m->len, EXTENDED_MAX, "it is too large");
                return 0;
        }
        text = calloc(1, len + 1);
        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        r = source_read(src, text, len, m->offset, err);
        if (r < 0)
                return r;
        if (type == 'L')
                name_set(x->name, text, strlen(text));
        else
                while (at < len && (n = pax_take(text + at, len - at, x)) > 0)
                        at += n;
        return 0;
}

/* One header that is not empty: the member's name, and where it lies. Returns false after a refusal. */
static bool header_take(struct ova_member *m, const uint8_t *h, uint64_t at, uint64_t file_size,
                        const struct extended *x, struct image_info *info)
{
        const char *name = x->name[0] ? x->name : (const char *)h;
        size_t room = x->name[0] ? OVA_NAME_LEN : NAME_FIELD;
        size_t skip = name[0] == '.' && name[1] == '/' ? 2 : 0; /* as from "tar cf x.ova ./FILE" */

        if (memcmp(h + 257, "ustar", 5) != 0 || !checksum_fits(h) || !number(h + 124, 12, &m->len)) {
                refuse_number(info, "archive", "tar header", at, 0, "a header of the archive is damaged");
                return false;
        }
        if (x->len != UINT64_MAX)
                m->len = x->len;
        if (m->len > file_size - at - BLOCK) {
                refuse_number(info, "truncated", "tar member", m->len, file_size - at - BLOCK,
                              "a member of the archive reaches beyond its end");
                return false;
        }
        m->offset = at + BLOCK;
        name_set(m->name, name + skip, strnlen(name + skip, room - skip));
        return true;
}

/* A file is kept. Returns false after a refusal. */
static bool member_take(struct ova_archive *a, char type, struct image_info *info)
{
        const struct ova_member *m = &a->members[a->n];

        if (type == 'g' || type == '5') /* attributes of all, a folder */
                return true;
        if (type != '0' && type != '\0') {
                refuse(info, "archive", "tar member", m->name, "a plain file",
                       "an OVA holds plain files only, no links or devices");
                return false;
        }
        if (a->n + 1 == OVA_MEMBERS_MAX) {
                refuse_number(info, "archive", "tar members", a->n + 1, OVA_MEMBERS_MAX - 1,
                              "too many files");
                return false;
        }
        a->n++;
        return true;
}

int ova_archive_read(const struct source *src, struct ova_archive *a, struct image_info *info,
                     struct err *err)
{
        const struct extended nothing = {.len = UINT64_MAX};
        struct extended x = nothing;
        uint8_t h[BLOCK];

        for (uint64_t at = 0, n = 0; at + BLOCK <= src->size; n++) {
                struct ova_member *m = &a->members[a->n];
                int r = source_read(src, h, BLOCK, at, err);

                if (r < 0)
                        return r;
                if (bytes_are_zero(h, BLOCK))
                        return 0;
                if (n > 4 * OVA_MEMBERS_MAX) {
                        refuse_number(info, "archive", "tar headers", n, 4 * OVA_MEMBERS_MAX, "too many");
                        return 0;
                }
                if (h[156] == 'x' || h[156] == 'L') {
                        if (!header_take(m, h, at, src->size, &nothing, info))
                                return 0;
                        r = extended_read(src, m, (char)h[156], &x, info, err);
                        if (r < 0)
                                return r;
                } else {
                        if (!header_take(m, h, at, src->size, &x, info))
                                return 0;
                        x = nothing;
                        if (!member_take(a, (char)h[156], info))
                                return 0;
                }
                at = m->offset + ((m->len + BLOCK - 1) & ~(uint64_t)(BLOCK - 1));
        }
        return 0;
}

const struct ova_member *ova_member_named(const struct ova_archive *a, const char *name)
{
        for (size_t i = 0; i < a->n; i++)
                if (streq(a->members[i].name, name))
                        return &a->members[i];
        return NULL;
}

/* XML's own entities, then a URI's escapes, in place: what is neither stays. */
static void entities_decode(char *text)
{
        static const char *const all[][2] = {
            {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}, {"&amp;", "&"}};
        char *to = text;

        for (const char *p = text; *p; to++) {
                size_t i = 0;

                while (i < ARRAY_SIZE(all) && strncmp(p, all[i][0], strlen(all[i][0])) != 0)
                        i++;
                *to = i < ARRAY_SIZE(all) ? all[i][1][0] : *p;
                p += i < ARRAY_SIZE(all) ? strlen(all[i][0]) : 1;
        }
        *to = '\0';
}

static void uri_decode(char *text)
{
        char *to = text;

        for (const char *p = text; *p; to++) {
                const char hex[3] = {p[0] == '%' ? p[1] : '\0', p[0] == '%' && p[1] ? p[2] : '\0', '\0'};
                bool escape = isxdigit((unsigned char)hex[0]) && isxdigit((unsigned char)hex[1]);

                *to = escape ? (char)strtoul(hex, NULL, 16) : *p;
                p += escape ? 3 : 1;
        }
        *to = '\0';
}

/* An href is a URI, in XML; but some write the name as it is. */
static bool href_known(const struct ova_archive *a, char *href)
{
        entities_decode(href);
        if (ova_member_named(a, href))
                return true;
        uri_decode(href);
        return ova_member_named(a, href);
}

/* Every file that the description names has to be in the archive. */
static void references_check(const struct ova_archive *a, char *text, struct image_info *info)
{
        if (strstr(text, "<!DOCTYPE") || strstr(text, "<!ENTITY"))
                refuse(info, "ovf", "document type", "present", "none",
                       "a description with definitions of its own is not read");
        for (char *p = text; (p = strstr(p, "<")); p++) {
                char *end = strchr(p, '>'), *name = p + 1 + strcspn(p + 1, " \t\r\n>"), *href, *close;

                if (!end || name - p < 5 || strncmp(name - 4, "File", 4) != 0 ||
                    (name[-5] != ':' && name[-5] != '<'))
                        continue;
                *end = '\0';
                if (strstr(p, "compression=\"") && !strstr(p, "compression=\"identity\"") &&
                    !strstr(p, "compression=\"\""))
                        refuse(info, "ovf", "compression", "present", "none",
                               "files that are packed once more are not read");
                href = strstr(p, "href=\"");
                close = href ? strchr(href + 6, '"') : NULL;
                if (close) {
                        *close = '\0';
                        if (!href_known(a, href + 6))
                                refuse(info, "external-file", "File href", href + 6, "a file of the archive",
                                       "an image must not refer to another file");
                }
                p = end;
        }
}

int ova_check(const struct source *src, struct ova *ret, struct image_info *info, struct err *err)
{
        _cleanup_(freep) struct ova_archive *a = calloc(1, sizeof(*a));
        _cleanup_(freep) char *text = NULL;
        const struct ova_member *disk = NULL;
        int r;

        if (!a)
                return err_set(err, -ENOMEM, "out of memory");
        r = ova_archive_read(src, a, info, err);
        if (r < 0 || info->n_refusals > 0)
                return r;
        if (a->n == 0 || !ends_with(a->members[0].name, ".ovf")) {
                refuse(info, "ovf", "first file", a->n ? a->members[0].name : "none", "*.ovf",
                       "the archive is no OVA: its first file has to be the description");
                return 0;
        }
        for (size_t i = 0; i < a->n; i++) {
                const struct ova_member *m = &a->members[i];

                note(info, "file", "%.40s, %" PRIu64 " bytes", m->name, m->len);
                if (!ends_with(m->name, ".vmdk") && !ends_with(m->name, ".vhd") &&
                    !ends_with(m->name, ".img"))
                        continue;
                if (disk)
                        refuse(info, "several-disks", "file", m->name, disk->name,
                               "it holds more than one disk: unpack it, and add them one by one");
                disk = m;
        }
        if (!disk || !ends_with(disk->name, ".vmdk")) {
                refuse(info, "ovf", "disk", disk ? disk->name : "none", "*.vmdk",
                       "there is no VMDK in it: unpack the archive, and add or convert what is its disk");
                return 0;
        }
        if (a->members[0].len > OVF_MAX) {
                refuse_number(info, "ovf", "description", a->members[0].len, OVF_MAX, "it is too large");
                return 0;
        }
        text = calloc(1, (size_t)a->members[0].len + 1);
        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        r = source_read(src, text, (size_t)a->members[0].len, a->members[0].offset, err);
        if (r < 0)
                return r;
        references_check(a, text, info);
        *ret = (struct ova){.offset = disk->offset, .len = disk->len};
        return 0;
}

/* --- reading: all of it is the VMDK's --- */

struct ova_image {
        struct sub_source sub;
        struct image *disk;
};

static void ova_close(void *state)
{
        struct ova_image *o = state;

        image_close(o->disk);
        free(o);
}

static int ova_read(struct image *img, uint8_t *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct ova_image *o = img->state;

        return image_read(o->disk, buf, len, offset, err);
}

static int ova_extent(struct image *img, uint64_t offset, uint64_t *ret_len, bool *ret_data, struct err *err)
{
        const struct ova_image *o = img->state;

        return image_extent(o->disk, offset, ret_len, ret_data, err);
}

static const struct image_ops ova_ops = {ova_close, ova_read, ova_extent};

int ova_open(struct image *img, struct err *err)
{
        struct image_info info = {.format = IMAGE_OVA}, inner = {.format = IMAGE_VMDK};
        struct ova_image *o;
        struct source disk;
        struct ova ova;
        int r = ova_check(&img->src, &ova, &info, err);

        if (r < 0)
                return r;
        if (info.n_refusals > 0)
                return refusal_error(&info, err);
        o = calloc(1, sizeof(*o));
        if (!o)
                return err_set(err, -ENOMEM, "out of memory");
        disk = source_part(&o->sub, &img->src, ova.offset, ova.len);
        inner.virtual_size = img->size;
        inner.file_size = ova.len;
        r = image_open(&disk, &inner, &o->disk, err);
        if (r < 0) {
                free(o);
                return r;
        }
        img->state = o;
        img->ops = &ova_ops;
        return 0;
}
