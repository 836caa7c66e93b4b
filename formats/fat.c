/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/probe.h"

/*
 * Just enough of FAT12, FAT16 and FAT32 to look into /EFI/BOOT, by the short names, which every file has.
 *
 *   boot sector:  11 le16 bytes a sector, 13 sectors a cluster, 14 le16 reserved sectors, 16 FATs,
 *                 17 le16 entries of the root (0: FAT32), 19 le16 or 32 le32 sectors in all,
 *                 22 le16 or 36 le32 sectors a FAT, 44 le32 first cluster of FAT32's root, 510 55 aa
 *   entry (32):   0 name, 8 + 3 (0 ends the directory, e5: deleted), 11 attributes (0x10 directory, 0x08
 *                 label, 0x0f long name), 20 and 26 le16 first cluster, high and low half
 */
#define ENTRY 32u
#define CLUSTERS_MAX 64 /* of a directory; loops end here */
#define ENTRIES_MAX 4096u

struct fat {
        const struct source *fs;
        uint64_t root, root_len; /* bytes; of FAT12's and FAT16's root directory */
        uint64_t table, data;    /* where the first FAT and cluster 2 begin */
        uint32_t cluster_len, n_clusters, root_cluster;
        unsigned bits; /* 12, 16 or 32; 0: no FAT */
};

static int fat_open(const struct source *fs, struct fat *ret, struct err *err)
{
        uint8_t b[512];
        uint64_t sector, sectors, fat_sectors, root_sectors, first;
        int r;

        *ret = (struct fat){.fs = fs};
        if (fs->size < sizeof(b))
                return 0;
        r = source_read(fs, b, sizeof(b), 0, err);
        if (r < 0)
                return r;
        sector = get_le16(b + 11);
        sectors = get_le16(b + 19) ? get_le16(b + 19) : get_le32(b + 32);
        fat_sectors = get_le16(b + 22) ? get_le16(b + 22) : get_le32(b + 36);
        if (b[510] != 0x55 || b[511] != 0xaa || sector < 512 || sector > 4096 || (sector & (sector - 1)) ||
            b[13] == 0 || (b[13] & (b[13] - 1)) || get_le16(b + 14) == 0 || b[16] == 0 || b[16] > 2 ||
            fat_sectors == 0)
                return 0;
        root_sectors = (get_le16(b + 17) * (uint64_t)ENTRY + sector - 1) / sector;
        first = get_le16(b + 14) + b[16] * fat_sectors + root_sectors;
        if (first >= sectors)
                return 0;
        ret->cluster_len = (uint32_t)(b[13] * sector);
        ret->n_clusters = (uint32_t)((sectors - first) / b[13]);
        ret->table = get_le16(b + 14) * sector;
        ret->root = (first - root_sectors) * sector;
        ret->root_len = root_sectors * sector;
        ret->data = first * sector;
        ret->root_cluster = get_le32(b + 44);
        ret->bits = ret->n_clusters < 4085 ? 12 : ret->n_clusters < 65525 ? 16 : 32;
        return 0;
}

/* The next cluster of a chain; 0: its end. */
static int fat_next(const struct fat *f, uint32_t cluster, uint32_t *ret, struct err *err)
{
        uint64_t at = f->table + (uint64_t)cluster * f->bits / 8;
        uint8_t e[4] = {0};
        uint32_t next;
        int r = source_read(f->fs, e, f->bits == 32 ? 4 : 2, at, err);

        if (r < 0)
                return r;
        next = f->bits == 32   ? get_le32(e) & 0x0fffffff
               : f->bits == 16 ? get_le16(e)
                               : (cluster % 2 ? get_le16(e) >> 4 : get_le16(e) & 0xfffu);
        *ret = next >= 2 && next - 2 < f->n_clusters ? next : 0;
        return 0;
}

/* Called for each file and folder; a value other than 0 ends the walk. */
typedef int (*entry_cb)(void *arg, const uint8_t *entry);

/* Part of a directory. Returns 1 at its end, or what cb returned. */
static int entries_walk(const struct fat *f, uint64_t at, uint64_t len, entry_cb cb, void *arg,
                        struct err *err)
{
        for (uint64_t i = 0; i + ENTRY <= len && i < ENTRIES_MAX * ENTRY; i += 512) {
                uint8_t s[512];
                int r = source_read(f->fs, s, sizeof(s), at + i, err);

                for (unsigned k = 0; r == 0 && k < sizeof(s) && i + k + ENTRY <= len; k += ENTRY) {
                        if (s[k] == 0)
                                return 1;
                        if (s[k] != 0xe5 && !(s[k + 11] & 0x08))
                                r = cb(arg, s + k);
                }
                if (r != 0)
                        return r;
        }
        return 0;
}

/* cluster 0: the root. */
static int directory_walk(const struct fat *f, uint32_t cluster, entry_cb cb, void *arg, struct err *err)
{
        int r = 0;

        if (cluster == 0 && f->bits != 32)
                r = entries_walk(f, f->root, f->root_len, cb, arg, err);
        else if (cluster == 0)
                cluster = f->root_cluster;
        for (unsigned i = 0; r == 0 && i < CLUSTERS_MAX; i++) {
                if (cluster < 2 || cluster - 2 >= f->n_clusters)
                        break;
                r = entries_walk(f, f->data + (uint64_t)(cluster - 2) * f->cluster_len, f->cluster_len, cb,
                                 arg, err);
                if (r == 0)
                        r = fat_next(f, cluster, &cluster, err);
        }
        return r < 0 ? r : 0;
}

static uint32_t entry_cluster(const uint8_t *e)
{
        return (uint32_t)get_le16(e + 20) << 16 | get_le16(e + 26);
}

static bool is_folder(const uint8_t *e, const char *name)
{
        return (e[11] & 0x10) && memcmp(e, name, 11) == 0;
}

static int efi_entry(void *arg, const uint8_t *e)
{
        uint32_t *cluster = arg;

        if (!is_folder(e, "EFI        "))
                return 0;
        *cluster = entry_cluster(e);
        return 1;
}

struct efi_walk {
        struct efi *efi;
        uint32_t boot; /* 0: not found */
};

static int vendor_entry(void *arg, const uint8_t *e)
{
        struct efi_walk *w = arg;
        char *name = w->efi->n_vendors < EFI_VENDORS_MAX ? w->efi->vendors[w->efi->n_vendors] : NULL;
        size_t n = 0;

        if (is_folder(e, "BOOT       ")) {
                w->boot = entry_cluster(e);
                return 0;
        }
        if (!(e[11] & 0x10) || e[0] == '.' || !name)
                return 0;
        for (; n < 8 && e[n] > 0x20 && e[n] < 0x7f; n++)
                name[n] = (char)tolower(e[n]);
        name[n] = '\0';
        w->efi->n_vendors++;
        return 0;
}

static int loader_entry(void *arg, const uint8_t *e)
{
        static const struct {
                const char *name;
                enum efi_loader loader;
        } names[] = {{"BOOTX64 EFI", EFI_LOADER_X64},
                     {"BOOTIA32EFI", EFI_LOADER_IA32},
                     {"BOOTAA64EFI", EFI_LOADER_AA64},
                     {"BOOTARM EFI", EFI_LOADER_ARM}};
        unsigned *set = arg;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (memcmp(e, names[i].name, 11) == 0)
                        *set |= names[i].loader;
        return 0;
}

int fat_efi_look(const struct source *fs, struct efi *ret, struct err *err)
{
        struct efi_walk w = {.efi = ret};
        uint32_t efi = 0;
        struct fat f;
        int r = fat_open(fs, &f, err);

        *ret = (struct efi){0};
        if (r < 0 || f.bits == 0)
                return r;
        r = directory_walk(&f, 0, efi_entry, &efi, err);
        if (r == 0 && efi)
                r = directory_walk(&f, efi, vendor_entry, &w, err);
        if (r == 0 && w.boot)
                r = directory_walk(&f, w.boot, loader_entry, &ret->loaders, err);
        return r;
}
