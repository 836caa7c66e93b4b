/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/vmdk.h"

static const char *const format_names[IMAGE_FORMAT_MAX] = {
    [IMAGE_RAW] = "raw", [IMAGE_ISO9660] = "iso", [IMAGE_QCOW2] = "qcow2", [IMAGE_VMDK] = "vmdk",
    [IMAGE_VDI] = "vdi", [IMAGE_VHD] = "vhd",     [IMAGE_VHDX] = "vhdx",   [IMAGE_OVA] = "ova",
};

const char *image_format_name(enum image_format f)
{
        return (unsigned)f < IMAGE_FORMAT_MAX ? format_names[f] : "unknown";
}

int image_format_parse(const char *name)
{
        for (int f = 0; f < IMAGE_FORMAT_MAX; f++)
                if (streq(name, format_names[f]))
                        return f;
        return -EINVAL;
}

struct signature {
        uint32_t offset;
        uint8_t len;
        const char *bytes;
        const char *name; /* of what is no format of ours */
        enum image_format format;
};

static const struct signature ours[] = {
    {0, 4, "QFI\xfb", NULL, IMAGE_QCOW2},         {0, 4, "KDMV", NULL, IMAGE_VMDK},
    {64, 4, "\x7f\x10\xda\xbe", NULL, IMAGE_VDI}, {0, 8, "conectix", NULL, IMAGE_VHD},
    {0, 8, "vhdxfile", NULL, IMAGE_VHDX},         {257, 5, "ustar", NULL, IMAGE_OVA},
    {0x8001, 5, "CD001", NULL, IMAGE_ISO9660},
};

/*
 * Signatures of what is no format of ours. A guest could not boot from any of them as a raw disk, and a
 * program that guesses formats by content would take such a "raw" disk for one that names other files.
 */
static const struct signature foreign[] = {
    {0, 4, "COWD", "vmdk (ESX)", 0},
    {0, 4, "QED", "qed", 0},
    {0, 16, "WithoutFreeSpace", "parallels", 0},
    {0, 16, "WithouFreSpacExt", "parallels", 0},
    {0, 13, "Bochs Virtual", "bochs", 0},
    {0, 2, "\x1f\x8b", "gzip", 0},
    {0, 6,
     "\xfd"
     "7zXZ",
     "xz", 0},
    {0, 4, "\x28\xb5\x2f\xfd", "zstd", 0},
    {0, 4, "PK\x03\x04", "zip", 0},
    {0, 6, "7z\xbc\xaf\x27\x1c", "7z", 0},
};

static bool matches(const struct signature *s, const uint8_t *head, size_t len)
{
        return len >= s->offset + s->len && memcmp(head + s->offset, s->bytes, s->len) == 0;
}

/* What a web server gives in place of a file that it does not have, or that one has to log in for. */
static bool is_html(const uint8_t *head, size_t len)
{
        static const char *const begins[] = {"<!doctype html", "<html"};

        while (len > 0 && isspace(*head))
                head++, len--;
        for (size_t i = 0; i < ARRAY_SIZE(begins); i++)
                if (len >= strlen(begins[i]) &&
                    strncasecmp((const char *)head, begins[i], strlen(begins[i])) == 0)
                        return true;
        return false;
}

static const char *foreign_name(const uint8_t *head, size_t len)
{
        for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
                if (matches(&foreign[i], head, len))
                        return foreign[i].name;
        /* bzip2: "BZh", a digit, and the block's magic */
        if (len >= 10 && memcmp(head, "BZh", 3) == 0 && memcmp(head + 4, "1AY&SY", 6) == 0)
                return "bzip2";
        if (len >= 8 && memcmp(head, "QFI\xfb", 4) == 0 && get_be32(head + 4) == 1)
                return "qcow";
        if (is_html(head, len))
                return "html";
        return NULL;
}

bool tail_is_vhd(const uint8_t *tail)
{
        return memcmp(tail, "conectix", 8) == 0;
}

/* All formats that the bytes could be taken for, a bit each. */
static unsigned candidates(const uint8_t *head, size_t len, const uint8_t *tail)
{
        unsigned found = 0;

        for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
                if (matches(&ours[i], head, len))
                        found |= 1u << ours[i].format;
        if (vmdk_is_descriptor(head, MIN_OF(len, (size_t)4096)))
                found |= 1u << IMAGE_VMDK;
        if (tail && tail_is_vhd(tail))
                found |= 1u << IMAGE_VHD;
        return found;
}

void detect(const uint8_t *head, size_t len, const uint8_t *tail, uint64_t file_size, int declared,
            struct image_info *ret)
{
        unsigned found = candidates(head, len, tail);
        const char *other = foreign_name(head, len);

        *ret = (struct image_info){.format = IMAGE_RAW, .file_size = file_size};
        if (file_size == 0) {
                refuse(ret, "empty", "file", "0", "1", "the image has no bytes");
                return;
        }
        /* a fixed VHD begins with the guest's bytes: in a stream only its end says so */
        if (declared == IMAGE_VHD && !tail && found == 0)
                found |= 1u << IMAGE_VHD;
        for (int f = 0; f < IMAGE_FORMAT_MAX; f++)
                if (found & 1u << f) {
                        ret->format = (enum image_format)f;
                        /* an ISO's first 32 KiB are free for others to use, so those others count first */
                        if (f != IMAGE_ISO9660)
                                break;
                }
        if (other) {
                refuse(ret, "unsupported-format", "magic", other,
                       "raw, iso, qcow2, vmdk, vdi, vhd, vhdx, ova",
                       "the content is of another format: unpack or convert it first");
                return;
        }
        if (found & (found - 1)) {
                char names[64] = "";

                for (int f = 0; f < IMAGE_FORMAT_MAX; f++)
                        if (found & 1u << f) {
                                if (names[0])
                                        strncat(names, " and ", sizeof(names) - strlen(names) - 1);
                                strncat(names, format_names[f], sizeof(names) - strlen(names) - 1);
                        }
                refuse(ret, "polyglot", "magic", names, "one format",
                       "the file is of more than one format at once: programs would not agree what it is");
        }
        if (declared >= 0 && declared != (int)ret->format)
                refuse(ret, "format-mismatch", "disk_format", image_format_name(ret->format),
                       image_format_name((enum image_format)declared),
                       "the content is not of the declared format: declare the one that it has");
}
