/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/probe.h"

/* Offsets: docs/formats/raw.md. */
#define SECTOR 512u
#define MBR_CODE 440u /* bytes of code in front of the disk's signature */
#define MBR_ENTRIES 446u
#define LOGICAL_MAX 32
#define GPT_ENTRY_MIN 128u
#define GPT_ENTRY_MAX 1024u
#define GPT_ENTRIES_MAX 128u

static void partition_add(struct partition_table *t, const struct source *disk, uint64_t sector,
                          uint64_t n_sectors, uint64_t size, enum partition_kind kind)
{
        if (n_sectors == 0 || sector == 0 || sector >= disk->size / size ||
            n_sectors > disk->size / size - sector || t->n == PARTITIONS_MAX)
                return;
        t->list[t->n++] = (struct partition){.offset = sector * size, .len = n_sectors * size, .kind = kind};
}

static bool is_extended(uint8_t type)
{
        return type == 0x05 || type == 0x0f || type == 0x85;
}

/* The chain of extended boot records: the first entry is the logical partition, relative to its record; the
 * second leads to the next record, relative to the extended partition. */
static int logical_read(const struct source *disk, uint64_t extended, struct partition_table *t,
                        struct err *err)
{
        uint64_t at = extended;

        for (unsigned i = 0; i < LOGICAL_MAX && at < disk->size / SECTOR; i++) {
                uint8_t s[SECTOR];
                const uint8_t *e = s + MBR_ENTRIES;
                int r = source_read(disk, s, sizeof(s), at * SECTOR, err);

                if (r < 0)
                        return r;
                if (s[510] != 0x55 || s[511] != 0xaa)
                        return 0;
                partition_add(t, disk, at + get_le32(e + 8), get_le32(e + 12), SECTOR,
                              e[4] == 0xef ? PARTITION_EFI : PARTITION_OTHER);
                if (!is_extended(e[16 + 4]) || get_le32(e + 16 + 8) == 0)
                        return 0;
                at = extended + get_le32(e + 16 + 8);
        }
        return 0;
}

static int mbr_read(const struct source *disk, const uint8_t *head, struct partition_table *t,
                    struct err *err)
{
        uint64_t extended = 0;

        for (unsigned i = 0; i < 4; i++) {
                const uint8_t *e = head + MBR_ENTRIES + i * 16;

                if (is_extended(e[4]))
                        extended = get_le32(e + 8);
                else if (e[4] != 0 && e[4] != 0xee)
                        partition_add(t, disk, get_le32(e + 8), get_le32(e + 12), SECTOR,
                                      e[4] == 0xef ? PARTITION_EFI : PARTITION_OTHER);
        }
        return extended ? logical_read(disk, extended, t, err) : 0;
}

/* Types as they lie on the disk: the first three parts of a GUID are little-endian. */
static enum partition_kind gpt_kind(const uint8_t *type)
{
        static const uint8_t efi[16] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                        0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b},
                             bios[16] = {0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e,
                                         0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49};

        return memcmp(type, efi, 16) == 0    ? PARTITION_EFI
               : memcmp(type, bios, 16) == 0 ? PARTITION_BIOS_BOOT
                                             : PARTITION_OTHER;
}

static int gpt_read(const struct source *disk, const uint8_t *header, uint64_t size,
                    struct partition_table *t, struct err *err)
{
        uint64_t at = get_le64(header + 72);
        uint32_t n = MIN_OF(get_le32(header + 80), GPT_ENTRIES_MAX), len = get_le32(header + 84);

        if (len < GPT_ENTRY_MIN || len > GPT_ENTRY_MAX || at >= disk->size / size)
                return 0;
        for (uint32_t i = 0; i < n; i++) {
                uint64_t offset = at * size + (uint64_t)i * len, first, last;
                uint8_t e[GPT_ENTRY_MIN];
                int r;

                if (offset > disk->size - sizeof(e))
                        return 0;
                r = source_read(disk, e, sizeof(e), offset, err);
                if (r < 0)
                        return r;
                first = get_le64(e + 32);
                last = get_le64(e + 40);
                if (!bytes_are_zero(e, 16) && last >= first && last < UINT64_MAX)
                        partition_add(t, disk, first, last - first + 1, size, gpt_kind(e));
        }
        return 0;
}

int partition_table_read(const struct source *disk, struct partition_table *ret, struct err *err)
{
        uint8_t head[4096 + SECTOR] = {0};
        int r;

        *ret = (struct partition_table){0};
        if (disk->size < SECTOR)
                return 0;
        r = source_read(disk, head, (size_t)MIN_OF(disk->size, (uint64_t)sizeof(head)), 0, err);
        if (r < 0)
                return r;
        if (head[510] != 0x55 || head[511] != 0xaa)
                return 0;
        ret->boot_code = !bytes_are_zero(head, MBR_CODE);
        for (unsigned size = SECTOR; size <= 4096; size *= 8)
                if (memcmp(head + size, "EFI PART", 8) == 0) {
                        ret->found = true;
                        return gpt_read(disk, head + size, size, ret, err);
                }
        r = mbr_read(disk, head, ret, err);
        ret->found =
            ret->n > 0; /* the boot sector of a file system has the same mark, and text for a table */
        return r;
}
