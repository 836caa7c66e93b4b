/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/formats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/qcow2.h"

static const char *const format_names[IMAGE_FORMAT_MAX] = {
    [IMAGE_RAW] = "raw",
    [IMAGE_ISO9660] = "iso",
    [IMAGE_QCOW2] = "qcow2",
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

/*
 * Signatures of what is no format of ours. A guest could not boot from any of them as a raw disk, and a
 * program that guesses formats by content would take such a "raw" disk for one that names other files.
 */
static const struct signature {
        uint32_t offset;
        uint8_t len;
        const char *bytes;
        const char *name;
} foreign[] = {
    {0, 4, "KDMV", "vmdk"},
    {0, 4, "COWD", "vmdk"},
    {0, 21, "# Disk DescriptorFile", "vmdk"},
    {0, 8, "vhdxfile", "vhdx"},
    {0, 8, "conectix", "vhd"},
    {64, 4, "\x7f\x10\xda\xbe", "vdi"},
    {0, 4, "QED", "qed"},
    {0, 16, "WithoutFreeSpace", "parallels"},
    {0, 16, "WithouFreSpacExt", "parallels"},
    {0, 13, "Bochs Virtual", "bochs"},
    {0, 2, "\x1f\x8b", "gzip"},
    {0, 6,
     "\xfd"
     "7zXZ",
     "xz"},
    {0, 4, "\x28\xb5\x2f\xfd", "zstd"},
    {0, 4, "PK\x03\x04", "zip"},
    {0, 6, "7z\xbc\xaf\x27\x1c", "7z"},
};

static const char *foreign_name(const uint8_t *head, size_t len)
{
        for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
                const struct signature *s = &foreign[i];

                if (len >= s->offset + s->len && memcmp(head + s->offset, s->bytes, s->len) == 0)
                        return s->name;
        }
        /* bzip2: "BZh", a digit, and the block's magic */
        if (len >= 10 && memcmp(head, "BZh", 3) == 0 && memcmp(head + 4, "1AY&SY", 6) == 0)
                return "bzip2";
        if (len >= 8 && memcmp(head, "QFI\xfb", 4) == 0 && get_be32(head + 4) == 1)
                return "qcow";
        return NULL;
}

static enum image_format head_format(const uint8_t *head, size_t len)
{
        if (len >= 4 && memcmp(head, "QFI\xfb", 4) == 0)
                return IMAGE_QCOW2;
        if (len >= 0x8006 && memcmp(head + 0x8001, "CD001", 5) == 0)
                return IMAGE_ISO9660;
        return IMAGE_RAW;
}

/* Guests see whole sectors: what a file lacks at its end reads as zeros. */
static uint64_t whole_sectors(uint64_t size, uint64_t sector)
{
        return size % sector ? size + (sector - size % sector) : size;
}

void head_check(const uint8_t *head, size_t len, uint64_t file_size, int declared, struct image_info *ret,
                struct qcow2 *ret_qcow2)
{
        const char *other;

        *ret = (struct image_info){.format = head_format(head, len), .file_size = file_size};
        *ret_qcow2 = (struct qcow2){0};
        if (file_size == 0) {
                refuse(ret, "empty", "file", "0", "1", "the image has no bytes");
                return;
        }
        other = foreign_name(head, len);
        if (other) {
                refuse(ret, "unsupported-format", "magic", other, "raw, iso, qcow2",
                       "the content is of another format: unpack or convert it first");
                return;
        }
        if (declared >= 0 && declared != (int)ret->format)
                refuse(ret, "format-mismatch", "disk_format", image_format_name(ret->format),
                       image_format_name((enum image_format)declared),
                       "the content is not of the declared format");
        if (ret->format == IMAGE_QCOW2) {
                qcow2_header_check(head, len, file_size, ret_qcow2, ret);
                return;
        }
        if (file_size > FORMAT_SIZE_MAX) {
                refuse_number(ret, "size", "file size", file_size, FORMAT_SIZE_MAX,
                              "the image is too large");
                return;
        }
        ret->virtual_size = whole_sectors(file_size, ret->format == IMAGE_ISO9660 ? 2048 : 512);
        if (ret->format == IMAGE_ISO9660)
                iso_check(head, len, file_size, ret);
}

int image_inspect(const struct source *src, int declared, struct image_info *ret, struct err *err)
{
        size_t len = (size_t)MIN_OF(src->size, (uint64_t)FORMAT_HEAD_LEN);
        _cleanup_(freep) uint8_t *head = malloc(FORMAT_HEAD_LEN);
        struct image_info info;
        struct qcow2 q;
        int r;

        if (!head)
                return err_set(err, -ENOMEM, "out of memory");
        r = source_read(src, head, len, 0, err);
        if (r < 0)
                return r;
        head_check(head, len, src->size, declared, &info, &q);
        if (info.n_refusals == 0 && info.format == IMAGE_QCOW2) {
                r = qcow2_walk(src, &q, &info, err);
                if (r < 0)
                        return r;
        }
        *ret = info;
        return 0;
}
