/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"

/* Offsets: docs/formats/iso9660.md. */
#define SECTOR 2048u
#define FIRST_DESCRIPTOR 16u

/* Where the second look goes; 0: nowhere. */
struct iso {
        uint64_t root, catalog;
};

static void volume_label(const uint8_t *d, struct image_info *info)
{
        size_t len = 32;

        while (len > 0 && (d[40 + len - 1] == ' ' || d[40 + len - 1] == '\0'))
                len--;
        text_clean(info->label, sizeof(info->label), d + 40, len);
}

/* [block * size, + len) has to lie inside the file. */
static void extent_check(struct image_info *info, const char *field, uint64_t block, uint64_t block_size,
                         uint64_t len)
{
        uint64_t end = block * block_size + len; /* both below 2^44 */

        if (end > info->file_size)
                refuse_number(info, "truncated", field, end, info->file_size,
                              "it ends beyond the end of the file");
}

static void primary_check(const uint8_t *d, struct image_info *info, struct iso *iso)
{
        uint64_t block_size = get_le16(d + 128);

        if (block_size != 512 && block_size != 1024 && block_size != SECTOR) {
                refuse_number(info, "block-size", "logical block size", block_size, SECTOR,
                              "only 512, 1024 and 2048 are known");
                return;
        }
        extent_check(info, "volume space size", get_le32(d + 80), block_size, 0);
        extent_check(info, "path table", get_le32(d + 140), block_size, get_le32(d + 132));
        if (d[156] < 34)
                refuse_number(info, "root-directory", "root directory record length", d[156], 34,
                              "the record is too short");
        else
                extent_check(info, "root directory", get_le32(d + 156 + 2), block_size,
                             get_le32(d + 156 + 10));
        iso->root = get_le32(d + 156 + 2) * block_size;
        volume_label(d, info);
}

static void boot_check(const uint8_t *d, struct image_info *info, struct iso *iso)
{
        static const char system[] = "EL TORITO SPECIFICATION";

        if (memcmp(d + 7, system, sizeof(system) - 1) != 0)
                return; /* another system's boot record says nothing to us */
        extent_check(info, "boot catalog", get_le32(d + 71), SECTOR, 32);
        info->bootable = true;
        iso->catalog = (uint64_t)get_le32(d + 71) * SECTOR;
}

/* A supplementary descriptor with one of Joliet's three escape sequences. */
static void supplementary_check(const uint8_t *d, struct image_info *info)
{
        if (d[88] == '%' && d[89] == '/' && (d[90] == '@' || d[90] == 'C' || d[90] == 'E')) {
                note(info, "Joliet", "level %d", d[90] == '@' ? 1 : d[90] == 'C' ? 2 : 3);
                extent_check(info, "Joliet root directory", get_le32(d + 156 + 2), SECTOR,
                             get_le32(d + 156 + 10));
        }
}

/* Rock Ridge shows in the system use area of the root's "." record. */
static int rock_ridge_note(const struct source *src, const struct iso *iso, struct image_info *info,
                           struct err *err)
{
        uint8_t r[256] = {0};
        size_t at, len;
        int e;

        if (iso->root == 0 || src->size - iso->root < sizeof(r))
                return 0;
        e = source_read(src, r, sizeof(r) - 1, iso->root, err);
        if (e < 0)
                return e;
        len = r[0];
        for (at = 34; at + 4 <= len && r[at + 2] >= 4; at += r[at + 2])
                if (memcmp(r + at, "RR", 2) == 0 || memcmp(r + at, "PX", 2) == 0) {
                        note(info, "Rock Ridge", "yes");
                        return 0;
                }
        return 0;
}

/* The boot catalog: a validation entry with a checksum, the default entry, then sections by platform. */
static int catalog_check(const struct source *src, const struct iso *iso, struct image_info *info,
                         struct err *err)
{
        uint8_t c[SECTOR] = {0};
        uint16_t sum = 0;
        int r;

        if (!info->bootable)
                return 0;
        r = source_read(src, c, (size_t)MIN_OF((uint64_t)SECTOR, src->size - iso->catalog), iso->catalog,
                        err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < 32; i += 2)
                sum = (uint16_t)(sum + get_le16(c + i));
        if (c[0] != 1 || c[30] != 0x55 || c[31] != 0xaa || sum != 0) {
                refuse(info, "boot-catalog", "validation entry", "damaged", "header 1, key 55 aa, sum 0",
                       "the El Torito boot catalog is damaged");
                return 0;
        }
        note(info, "El Torito", "%s, %s", c[1] == 0xef ? "EFI" : "BIOS",
             c[32] == 0x88 ? "bootable" : "not bootable");
        extent_check(info, "boot image", get_le32(c + 40), SECTOR, 512);
        for (size_t at = 64; at + 64 <= sizeof(c) && (c[at] == 0x90 || c[at] == 0x91);
             at += 32 * (1 + (size_t)get_le16(c + at + 2))) {
                note(info, "El Torito section", "%s, %u entr%s", c[at + 1] == 0xef ? "EFI" : "BIOS",
                     get_le16(c + at + 2), get_le16(c + at + 2) == 1 ? "y" : "ies");
                extent_check(info, "boot image", get_le32(c + at + 40), SECTOR, 512);
        }
        return 0;
}

static void descriptors_check(const uint8_t *head, size_t len, struct image_info *info, struct iso *iso)
{
        bool primary = false;

        for (size_t sector = FIRST_DESCRIPTOR;; sector++) {
                const uint8_t *d = head + sector * SECTOR;

                if ((sector + 1) * SECTOR > len) {
                        refuse_number(info, "truncated", "volume descriptor set", (sector + 1) * SECTOR, len,
                                      "it has no terminator where one has to be");
                        return;
                }
                if (memcmp(d + 1, "CD001", 5) != 0) {
                        char id[8];

                        text_clean(id, sizeof(id), d + 1, 5);
                        refuse(info, "descriptor", "standard identifier", id, "CD001",
                               "the volume descriptor set ends without a terminator");
                        return;
                }
                if (d[0] == 255)
                        break;
                if (d[0] == 0)
                        boot_check(d, info, iso);
                if (d[0] == 2)
                        supplementary_check(d, info);
                if (d[0] == 1 && !primary) {
                        primary = true;
                        primary_check(d, info, iso);
                }
        }
        if (!primary)
                refuse(info, "descriptor", "volume descriptor type", "none", "1",
                       "there is no primary volume descriptor");
}

int iso_details(const struct source *src, const uint8_t *head, size_t len, struct image_info *info,
                struct err *err)
{
        struct image_info again = {.file_size = info->file_size};
        struct iso iso = {0};
        int r;

        descriptors_check(head, len, &again, &iso);
        note(info, "volume identifier", "%s", info->label);
        r = rock_ridge_note(src, &iso, info, err);
        if (r == 0)
                r = catalog_check(src, &iso, info, err);
        /* the mark alone may be that of another file system on the same disc: an Apple one has it */
        if (r == 0 && head[510] == 0x55 && head[511] == 0xaa && !bytes_are_zero(head + 446, 64)) {
                note(info, "hybrid", "it has a partition table, for a USB stick");
                partitions_note(head, len, info->virtual_size, info);
        }
        return r;
}

void iso_check(const uint8_t *head, size_t len, uint64_t file_size, struct image_info *info)
{
        struct iso iso = {0};

        descriptors_check(head, len, info, &iso);
}
