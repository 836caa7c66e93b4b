/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"

/* Offsets: docs/formats/raw.md. Only told, never a reason to refuse: a guest may repair its own table. */
#define MBR_ENTRIES 446u

void partitions_note(const uint8_t *head, size_t len, uint64_t disk_size, struct image_info *info)
{
        bool mbr = len >= 512 && head[510] == 0x55 && head[511] == 0xaa;
        unsigned used = 0;

        for (unsigned sector = 512; mbr && sector <= 4096 && sector + 92 <= len; sector *= 8)
                if (memcmp(head + sector, "EFI PART", 8) == 0) {
                        note(info, "partition table", "GPT, %u entries at sector %" PRIu64,
                             get_le32(head + sector + 80), get_le64(head + sector + 72));
                        note(info, "GPT last usable sector", "%" PRIu64, get_le64(head + sector + 48));
                        note(info, "GPT disk size fits", "%s",
                             get_le64(head + sector + 32) < disk_size / sector ? "yes" : "no: cut");
                        return;
                }
        if (!mbr) {
                note(info, "partition table", "none");
                return;
        }
        for (unsigned i = 0; i < 4; i++) {
                const uint8_t *e = head + MBR_ENTRIES + i * 16;
                uint64_t start = get_le32(e + 8), n = get_le32(e + 12);

                if (e[4] == 0)
                        continue;
                used++;
                note(info, "MBR partition", "%u: type 0x%02x, sectors %" PRIu64 " + %" PRIu64 "%s%s", i + 1,
                     e[4], start, n, e[0] & 0x80 ? ", active" : "",
                     (start + n) * 512 > disk_size ? ", beyond the end" : "");
        }
        if (used == 0)
                note(info, "partition table", "none: a boot sector without partitions");
        else
                note(info, "partition table", "MBR, %u partition%s", used, used == 1 ? "" : "s");
}
