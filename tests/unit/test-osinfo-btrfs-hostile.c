/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "test-osinfo-util.h"

/*
 * The reader of btrfs against file systems that neither mkfs.btrfs nor a kernel writes: made by hand, field
 * by field (docs/formats/btrfs.md).
 */

#define NODE 65536u
#define ROOTS_AT 131072u
#define FILES_AT 196608u
#define DATA_AT 262144u
#define LEAF_AT 393216u
#define TOP_AT 458752u
#define DISK_LEN 524288u

static void put_le64(uint8_t *p, uint64_t v)
{
        put_le32(p, (uint32_t)v);
        put_le32(p + 4, (uint32_t)(v >> 32));
}

static void put_key(uint8_t *p, uint64_t object, uint8_t type, uint64_t offset)
{
        put_le64(p, object);
        p[8] = type;
        put_le64(p + 9, offset);
}

/* Room for an item's data in a leaf of the disk; keys have to ascend. */
static uint8_t *item_add(uint8_t *disk, size_t at, uint64_t object, uint8_t type, uint64_t offset,
                         size_t len)
{
        uint8_t *leaf = disk + at;
        uint32_t n = get_le32(leaf + 96),
                 end = n > 0 ? get_le32(leaf + 101 + (n - 1) * 25 + 17) : NODE - 101;

        assert_true(101 + (n + 1) * 25 <= end + 101 - len);
        put_le64(leaf + 48, at);
        put_le32(leaf + 96, n + 1);
        put_key(leaf + 101 + n * 25, object, type, offset);
        put_le32(leaf + 101 + n * 25 + 17, (uint32_t)(end - len));
        put_le32(leaf + 101 + n * 25 + 21, (uint32_t)len);
        return leaf + 101 + end - len;
}

static uint8_t *entry_add(uint8_t *disk, uint64_t dir, uint32_t hash, const char *name, uint64_t inode)
{
        uint8_t *p = item_add(disk, FILES_AT, dir, 84, hash, 30 + strlen(name));

        put_key(p, inode, 1, 0);
        put_le16(p + 27, (uint16_t)strlen(name));
        memcpy(p + 30, name, strlen(name));
        return p;
}

static uint8_t *inode_add(uint8_t *disk, uint64_t inode, uint32_t mode)
{
        uint8_t *p = item_add(disk, FILES_AT, inode, 1, 0, 160);

        put_le64(p + 16, 16384);
        put_le32(p + 52, mode);
        return p;
}

static uint8_t *extent_add(uint8_t *disk, size_t leaf, uint64_t offset, uint64_t in, uint64_t len)
{
        uint8_t *p = item_add(disk, leaf, 258, 108, offset, 53);

        put_le64(p + 8, 131072);
        p[16] = 1;
        p[20] = 1;
        put_le64(p + 21, DATA_AT);
        put_le64(p + 29, 131072);
        put_le64(p + 37, in);
        put_le64(p + 45, len);
        return p;
}

/* /etc/os-release without its extents, and 128 KiB compressed to be their content. One chunk; logical
 * addresses are those of the disk. ret_root: the item that says where the files are. */
static uint8_t *disk_begin(const char *text, uint8_t **ret_root)
{
        uint8_t *disk = calloc(1, DISK_LEN), *super = disk + 65536;
        uLongf packed = LEAF_AT - DATA_AT;

        memcpy(super + 64, "_BHRfS_M", 8);
        put_le64(super + 48, 65536);
        put_le64(super + 80, ROOTS_AT);
        put_le32(super + 148, NODE);
        put_le32(super + 160, 17 + 80);
        put_key(super + 811, 256, 228, 0);
        put_le64(super + 828, DISK_LEN);
        put_le16(super + 828 + 44, 1);
        *ret_root = item_add(disk, ROOTS_AT, 5, 132, 0, 439);
        put_le64(*ret_root + 168, 256);
        put_le64(*ret_root + 176, FILES_AT);
        inode_add(disk, 256, 0040755);
        entry_add(disk, 256, 0xa421569f, "etc", 257);
        inode_add(disk, 257, 0040755);
        entry_add(disk, 257, 0xeb64fee4, "os-release", 258);
        inode_add(disk, 258, 0100644);
        assert_int_equal(compress(disk + DATA_AT, &packed, (const uint8_t *)text, strlen(text)), Z_OK);
        return disk;
}

/* Two leaves. The second extent is behind a hole, so that the search for it ends behind the first leaf. */
static void a_file_goes_on_in_the_next_leaf(void **state)
{
        uint8_t *root, *disk = disk_begin("ID=x\n#\nVERSION_ID=3\n", &root), *top = disk + TOP_AT;
        struct bytes b = {disk, DISK_LEN};
        struct source src = memory_source(&b);
        struct found f;

        extent_add(disk, FILES_AT, 0, 0, 6);
        extent_add(disk, LEAF_AT, 7, 6, 14);
        put_le64(root + 176, TOP_AT);
        root[238] = 1;
        put_le64(top + 48, TOP_AT);
        put_le32(top + 96, 2);
        top[100] = 1;
        put_key(top + 101, 256, 1, 0);
        put_le64(top + 118, FILES_AT);
        put_key(top + 134, 258, 108, 7);
        put_le64(top + 151, LEAF_AT);
        f = btrfs_found(&src);
        found_is("both leaves", &f, "x", "3", NULL);
        top[100] = 2; /* a node that is its own child */
        root[238] = 2;
        put_le64(top + 118, TOP_AT);
        f = btrfs_found(&src);
        assert_string_equal(f.release.id, "");
        free(disk);
}

struct counted {
        const uint8_t *disk;
        uint64_t read;
};

static int counted_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct counted *c = state;

        memcpy(buf, c->disk + offset, len);
        c->read += len;
        return 0;
}

/* What was never written is zeros, whatever lies there; what is beyond an extent's end is not read. */
static void extents_that_are_not_as_usual(void **state)
{
        uint8_t *root, *disk = disk_begin("ID=x\n#\nVERSION_ID=3\n", &root), *p;
        struct bytes b = {disk, DISK_LEN};
        struct source src = memory_source(&b);
        struct found f;

        memcpy(disk + LEAF_AT, "\nPRETTY_NAME=o\n", 15);
        extent_add(disk, FILES_AT, 0, 0, 6);
        p = extent_add(disk, FILES_AT, 6, 0, 15);
        p[16] = 0;
        p[20] = 2; /* preallocated */
        put_le64(p + 21, LEAF_AT);
        p = extent_add(disk, FILES_AT, 21, 0, 10);
        p[16] = 0;
        put_le64(p + 21, 0); /* a hole */
        put_le64(p + 29, 0);
        p = extent_add(disk, FILES_AT, 31, 6, 14);
        f = btrfs_found(&src);
        found_is("zeros", &f, "x", "3", NULL);
        assert_string_equal(f.release.name, "");
        put_le64(p + 37, 131070); /* the file's part of it is beyond its end */
        f = btrfs_found(&src);
        found_is("beyond the end", &f, "x", "", NULL);
        put_le64(p + 37, 6);
        put_le64(p + 8, 131073); /* larger than an extent may be */
        f = btrfs_found(&src);
        found_is("too large", &f, "x", "", NULL);
        put_le64(p + 8, 131072);
        p[17] = 1; /* encrypted */
        f = btrfs_found(&src);
        found_is("encrypted", &f, "x", "", NULL);
        free(disk);
}

/* Each length of an item up to `need` that is too short for what has to be in it. */
static void item_shorten(uint8_t *disk, size_t at, uint32_t i, uint32_t need)
{
        struct bytes b = {disk, DISK_LEN};
        struct source src = memory_source(&b);
        uint8_t *len = disk + at + 101 + i * 25 + 21;
        uint32_t was = get_le32(len);

        for (uint32_t n = 0; n < need; n++) {
                struct found f;

                put_le32(len, n);
                f = btrfs_found(&src);
                if (f.release.id[0])
                        fail_msg("item %u of the leaf at %zu: %u bytes", i, at, n);
        }
        put_le32(len, was);
        assert_string_equal(btrfs_found(&src).release.id, "x");
}

static void items_that_are_too_short_are_not_read(void **state)
{
        uint8_t *root, *disk = disk_begin("ID=x\n", &root), *p;

        p = extent_add(disk, FILES_AT, 0, 0, 16384);
        item_shorten(disk, ROOTS_AT, 0, 239);
        for (uint32_t i = 1; i < get_le32(disk + FILES_AT + 96);
             i++) /* 0: the top directory, known to be one */
                item_shorten(disk, FILES_AT, i, get_le32(disk + FILES_AT + 101 + i * 25 + 21));
        p[16] = p[20] = 0; /* inline */
        memcpy(p + 21, "\nID=x\n", 6);
        item_shorten(disk, FILES_AT, 5, 21);
        free(disk);
}

static void inline_add(uint8_t *disk, uint64_t inode, const char *text)
{
        uint8_t *p = item_add(disk, FILES_AT, inode, 108, 0, 21 + strlen(text));

        put_le64(p + 8, strlen(text));
        memcpy(p + 21, text, strlen(text));
}

/* /etc/os-release is a link through n subvolumes, each in the one before, to a file in the last. */
static struct found volumes_look(unsigned n)
{
        uint8_t *root, *disk = disk_begin("", &root), *p;
        struct bytes b = {disk, DISK_LEN};
        struct source src = memory_source(&b);
        struct found f;
        char link[256] = "";

        put_le32(disk + FILES_AT + 96, 0);
        entry_add(disk, 256, 0xa421569f, "etc", 257);
        put_key(entry_add(disk, 256, 0xfabb1f4b, "w", 0), 1000, 132, 0);
        inode_add(disk, 257, 0040755);
        entry_add(disk, 257, 0xeb64fee4, "os-release", 258);
        p = inode_add(disk, 258, 0120777);
        for (unsigned i = 0; i <= n; i++)
                strcat(link, "/w");
        put_le64(p + 16, strlen(link));
        inline_add(disk, 258, link);
        for (unsigned i = 0; i < n; i++) {
                p = item_add(disk, ROOTS_AT, 1000 + i, 132, 0, 239);
                put_le64(p + 168, 1000 + i);
                put_le64(p + 176, FILES_AT);
                inode_add(disk, 1000 + i, 0040755);
                p = entry_add(disk, 1000 + i, 0xfabb1f4b, "w", 2000);
                if (i + 1 < n)
                        put_key(p, 1000 + i + 1, 132, 0);
        }
        inode_add(disk, 2000, 0100644);
        inline_add(disk, 2000, "ID=x\n");
        f = btrfs_found(&src);
        free(disk);
        return f;
}

static void there_is_an_end_of_subvolumes(void **state)
{
        assert_string_equal(volumes_look(31).release.id, "x");
        assert_string_equal(volumes_look(32).release.id, "");
        assert_string_equal(volumes_look(60).release.id, "");
}

/* An extent a byte, and for each of them 128 KiB to be read and to be unpacked. */
static void a_greedy_one_meets_the_budget(void **state)
{
        uint8_t *root, *few = disk_begin("ID=x\n", &root), *many = disk_begin("ID=x\n", &root);
        struct counted c = {.disk = few};
        struct source src = {.size = DISK_LEN, .read = counted_read, .state = &c};
        struct found f;

        extent_add(few, FILES_AT, 0, 0, 16384);
        f = btrfs_found(&src);
        found_is("one extent", &f, "x", "", NULL);
        assert_true(c.read < 1 << 20);
        for (unsigned i = 0; i < 700; i++)
                extent_add(many, FILES_AT, i, 0, 1);
        c = (struct counted){.disk = many};
        f = btrfs_found(&src);
        assert_string_equal(f.release.id, "");
        assert_true(c.read > 3 << 20 && c.read <= BTRFS_READ_MAX);
        free(few);
        free(many);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_file_goes_on_in_the_next_leaf),
            cmocka_unit_test(extents_that_are_not_as_usual),
            cmocka_unit_test(items_that_are_too_short_are_not_read),
            cmocka_unit_test(there_is_an_end_of_subvolumes),
            cmocka_unit_test(a_greedy_one_meets_the_budget),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
