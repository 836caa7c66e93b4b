/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/vmdk.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/util.h"
#include "formats/internal.h"

#define LINE_LEN 512
#define EXTENTS_TOLD 4 /* of perhaps hundreds: the other reasons need room, too */

bool vmdk_is_descriptor(const uint8_t *head, size_t len)
{
        const uint8_t *end = head + len;
        const char version[] = "version=";

        for (const uint8_t *p = head; p < end;) {
                const uint8_t *line_end = memchr(p, '\n', (size_t)(end - p));
                size_t n = (size_t)((line_end ? line_end : end) - p);
                size_t blank = 0;

                while (blank < n && (p[blank] == ' ' || p[blank] == '\r'))
                        blank++;
                if (*p == '#') {
                        static const char name[] = "# Disk DescriptorFile";

                        if (n >= sizeof(name) - 1 &&
                            strncasecmp((const char *)p, name, sizeof(name) - 1) == 0)
                                return true;
                } else if (blank < n) {
                        return n > sizeof(version) - 1 &&
                               strncasecmp((const char *)p, version, sizeof(version) - 1) == 0;
                }
                if (!line_end)
                        return false;
                p = line_end + 1;
        }
        return false;
}

/* What the lines said. */
struct said {
        uint64_t capacity;
        unsigned extents;
        bool alone; /* the file is only this text */
        char type[32];
        uint64_t parent;
};

/* The text between the first two quotes, cleaned. */
static void quoted(const char *text, char *ret, size_t room)
{
        const char *from = strchr(text, '"'), *to = from ? strchr(from + 1, '"') : NULL;

        if (!from) {
                text_clean(ret, room, (const uint8_t *)text, strlen(text));
                return;
        }
        from++;
        text_clean(ret, room, (const uint8_t *)from, to ? (size_t)(to - from) : strlen(from));
}

/* "RW 20480 SPARSE "disk.vmdk"" */
static void extent_take(struct said *s, const char *line, struct image_info *info)
{
        char access[16], type[16], name[64] = "";
        uint64_t sectors;

        s->extents++;
        if (sscanf(line, "%15s %" SCNu64 " %15s", access, &sectors, type) != 3) {
                refuse(info, "descriptor", "extent", "not readable", "access, sectors, type, file",
                       "the descriptor has a malformed extent line");
                return;
        }
        quoted(line, name, sizeof(name));
        if (s->extents <= EXTENTS_TOLD)
                note(info, "extent", "%s %" PRIu64 " %s", access, sectors, type);
        if (s->alone) {
                if (s->extents <= EXTENTS_TOLD)
                        refuse(info, "extent-file", "extent", name, "none",
                               "the data lies in another file, which is never followed: convert the disk "
                               "with qemu-img; a single FLAT file is a raw disk by itself");
                return;
        }
        if (strcasecmp(type, "SPARSE") != 0)
                refuse(info, "extent-type", "extent type", type, "SPARSE",
                       "an image must not refer to another file");
        if (strchr(name, '/') || strchr(name, '\\'))
                refuse(info, "extent-file", "extent", name, "a plain name",
                       "an image must not refer to another file");
        if (sectors != s->capacity)
                refuse_number(info, "size", "extent sectors", sectors, s->capacity,
                              "descriptor and header say different sizes");
}

static void line_take(struct said *s, char *line, struct image_info *info)
{
        char *equals;

        while (isspace((unsigned char)*line))
                line++;
        if (*line == '#' || *line == '\0')
                return;
        if (strncasecmp(line, "RW ", 3) == 0 || strncasecmp(line, "RDONLY ", 7) == 0 ||
            strncasecmp(line, "NOACCESS ", 9) == 0) {
                extent_take(s, line, info);
                return;
        }
        equals = strchr(line, '=');
        if (!equals)
                return;
        for (char *p = equals; p > line && (*p == '=' || isspace((unsigned char)*p)); p--)
                *p = '\0';
        equals++;
        if (strcasecmp(line, "createType") == 0) {
                quoted(equals, s->type, sizeof(s->type));
                note(info, "createType", "%s", s->type);
        } else if (strcasecmp(line, "parentCID") == 0) {
                s->parent = strtoull(equals, NULL, 16);
                note(info, "parentCID", "%08" PRIx64, s->parent);
        } else if (strcasecmp(line, "parentFileNameHint") == 0) {
                char name[64];

                quoted(equals, name, sizeof(name));
                refuse(info, "differencing", "parentFileNameHint", name, "none",
                       "an image must not refer to another file: merge it with its parent");
        } else if (strncasecmp(line, "changeTrackPath", 15) == 0) {
                note(info, "changeTrackPath", "ignored");
        }
}

void vmdk_descriptor_check(const char *text, size_t len, uint64_t capacity, struct image_info *info)
{
        struct said s = {.capacity = capacity, .alone = capacity == UINT64_MAX, .parent = UINT32_MAX};
        char line[LINE_LEN];

        len = strnlen(text, len);
        for (size_t at = 0; at < len;) {
                const char *end = memchr(text + at, '\n', len - at);
                size_t n = end ? (size_t)(end - text) - at : len - at;

                if (n >= sizeof(line)) {
                        refuse_number(info, "descriptor", "line length", n, sizeof(line) - 1,
                                      "a line of the descriptor is too long");
                        return;
                }
                memcpy(line, text + at, n);
                line[n] = '\0';
                line_take(&s, line, info);
                at += n + 1;
        }
        if (s.parent != UINT32_MAX)
                refuse_number(info, "differencing", "parentCID", s.parent, UINT32_MAX,
                              "an image must not refer to another file: merge it with its parent");
        if (s.extents != 1)
                refuse_number(info, "extents", "number of extents", s.extents, 1,
                              "one file has to hold the whole disk");
        if (!s.alone && strcasecmp(s.type, "monolithicSparse") != 0 &&
            strcasecmp(s.type, "streamOptimized") != 0)
                refuse(info, "subformat", "createType", s.type[0] ? s.type : "none",
                       "monolithicSparse, streamOptimized", "a disk of this kind is not one file");
        else if (s.alone && info->n_refusals == 0)
                refuse(info, "subformat", "createType", s.type, "monolithicSparse, streamOptimized",
                       "this file is a description only, the disk lies elsewhere");
}
