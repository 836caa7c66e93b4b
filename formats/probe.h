/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"

/*
 * What lies on a disk or an ISO, as far as it tells which system is on it and how it boots. All of it is a
 * stranger's: reads are bounded in number and length, and nothing found is believed but as a hint. One
 * thread at a time.
 */

enum partition_kind { PARTITION_OTHER, PARTITION_EFI, PARTITION_BIOS_BOOT };

struct partition {
        uint64_t offset, len; /* bytes; inside of the disk, len > 0 */
        enum partition_kind kind;
};

#define PARTITIONS_MAX 64

struct partition_table {
        bool found;     /* else the disk has none: it may be one file system */
        bool boot_code; /* its first sector has code that a BIOS would run */
        struct partition list[PARTITIONS_MAX];
        size_t n;
};

/* MBR with logical partitions, and GPT with sectors of 512 or 4096 bytes. Those that are not inside of the
 * disk are left out. Offsets: docs/formats/raw.md. */
int partition_table_read(const struct source *disk, struct partition_table *ret, struct err *err);

/* The architectures that the names of removable media's EFI loaders stand for (UEFI 2.10, 3.5.1.1). */
enum efi_loader {
        EFI_LOADER_X64 = 1 << 0,
        EFI_LOADER_IA32 = 1 << 1,
        EFI_LOADER_AA64 = 1 << 2,
        EFI_LOADER_ARM = 1 << 3,
};

/* What lies in /EFI of a FAT file system. Source: Microsoft's FAT specification 1.03. */
#define EFI_VENDORS_MAX 8
struct efi {
        unsigned loaders; /* in /EFI/BOOT, a set of enum efi_loader; 0: none, or this is no FAT */
        char vendors[EFI_VENDORS_MAX][9]; /* the other folders' short names in lower case: "debian" */
        size_t n_vendors;
};
int fat_efi_look(const struct source *fs, struct efi *ret, struct err *err);

/* An ISO's identifiers, trimmed, as the primary volume descriptor has them, and what its boot catalog
 * offers. docs/formats/iso9660.md */
struct iso_probe {
        char volume[33], system[33], publisher[129], application[129];
        uint64_t volume_size; /* bytes */
        bool bios, efi;       /* El Torito has a bootable entry for them */
        uint64_t efi_offset;  /* of the EFI boot image, a FAT file system; bytes */
};
/* -EBADMSG: no ISO. */
int iso_probe(const struct source *src, struct iso_probe *ret, struct err *err);
