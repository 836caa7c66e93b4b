/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"

/* Offsets: docs/formats/iso9660.md. */
#define SECTOR 2048u
#define FIRST_DESCRIPTOR 16u

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

static void primary_check(const uint8_t *d, struct image_info *info)
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
        volume_label(d, info);
}

static void boot_check(const uint8_t *d, struct image_info *info)
{
        static const char system[] = "EL TORITO SPECIFICATION";

        if (memcmp(d + 7, system, sizeof(system) - 1) != 0)
                return; /* another system's boot record says nothing to us */
        extent_check(info, "boot catalog", get_le32(d + 71), SECTOR, 32);
        info->bootable = true;
}

void iso_check(const uint8_t *head, size_t len, uint64_t file_size, struct image_info *info)
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
                        boot_check(d, info);
                if (d[0] == 1 && !primary) {
                        primary = true;
                        primary_check(d, info);
                }
        }
        if (!primary)
                refuse(info, "descriptor", "volume descriptor type", "none", "1",
                       "there is no primary volume descriptor");
}
