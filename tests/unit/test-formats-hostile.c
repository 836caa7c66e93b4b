/* SPDX-License-Identifier: Apache-2.0 */
#include "test-formats-util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"

/* Images that lie. Each patch is one change to an image that QEMU made; the offsets are those of
 * docs/formats/qcow2.md. */
enum place { HEADER, L1, L2, REFCOUNT_TABLE };
struct patch {
        const char *name;
        enum place place;
        unsigned offset, len; /* len 4 or 8, big-endian */
        uint64_t value;
        const char *code;   /* of the refusal by image_inspect() */
        const char *stream; /* in the stream's message; NULL: the same */
};

static const struct patch patches[] = {
    {"a backing file", HEADER, 8, 8, 0x200, "backing-file", NULL},
    {"a backing file's name outside the file", HEADER, 8, 8, UINT64_MAX, "backing-file", NULL},
    {"version 0", HEADER, 4, 4, 0, "version", NULL},
    {"version 1", HEADER, 4, 4, 1, "unsupported-format", NULL},
    {"version 4", HEADER, 4, 4, 4, "version", NULL},
    {"clusters of 256 bytes", HEADER, 20, 4, 8, "cluster-bits", NULL},
    {"clusters of 4 MiB", HEADER, 20, 4, 22, "cluster-bits", NULL},
    {"clusters of 2^64 bytes", HEADER, 20, 4, 64, "cluster-bits", NULL},
    {"no size", HEADER, 24, 8, 0, "size", NULL},
    {"half a sector", HEADER, 24, 8, 4194304 + 256, "size", NULL},
    {"a size of 2^63", HEADER, 24, 8, UINT64_C(1) << 63, "size", NULL},
    {"a size that needs more L1", HEADER, 24, 8, UINT64_C(1) << 40, "l1-size", NULL},
    {"encryption", HEADER, 32, 4, 1, "encryption", NULL},
    {"LUKS", HEADER, 32, 4, 2, "encryption", NULL},
    {"no L1", HEADER, 36, 4, 0, "l1-size", NULL},
    {"an L1 of 32 GiB", HEADER, 36, 4, UINT32_MAX, "l1-size", NULL},
    {"an L1 beyond the end", HEADER, 40, 8, UINT64_C(1) << 40, "truncated", NULL},
    {"an L1 that wraps around", HEADER, 40, 8, UINT64_MAX - 0xffff, "truncated", NULL},
    {"an L1 off its cluster", HEADER, 40, 8, 0x30008, "l1-bounds", NULL},
    {"an L1 in the header", HEADER, 40, 8, 0, "l1-bounds", NULL},
    {"an L1 on the refcount table", HEADER, 40, 8, 0x10000, "overlap", "overlap"},
    {"refcounts beyond the end", HEADER, 48, 8, UINT64_C(1) << 40, "truncated", NULL},
    {"refcounts off their cluster", HEADER, 48, 8, 0x10200, "refcount-table-bounds", NULL},
    {"refcounts in the header", HEADER, 48, 8, 0, "refcount-table-bounds", NULL},
    {"no refcounts", HEADER, 56, 4, 0, "refcount-table-size", NULL},
    {"a refcount table of 256 TiB", HEADER, 56, 4, UINT32_MAX, "refcount-table-size", NULL},
    {"too many snapshots", HEADER, 60, 4, UINT32_MAX, "snapshots", NULL},
    {"snapshots in the header", HEADER, 60, 4, 1, "snapshots", NULL},
    {"marked as corrupt", HEADER, 72, 8, 2, "corrupt", NULL},
    {"an external data file", HEADER, 72, 8, 4, "data-file", NULL},
    {"compression by another name", HEADER, 72, 8, 8, "compression-type", NULL},
    {"an unknown feature", HEADER, 72, 8, 32, "unknown-feature", NULL},
    {"the last unknown feature", HEADER, 72, 8, UINT64_C(1) << 63, "unknown-feature", NULL},
    {"refcounts of 128 bits", HEADER, 96, 4, 7, "refcount-order", NULL},
    {"a header of 96 bytes", HEADER, 100, 4, 96, "header-length", NULL},
    {"a header of 4 GiB", HEADER, 100, 4, UINT32_MAX & ~7u, "header-length", NULL},
    {"an odd header", HEADER, 100, 4, 109, "header-length", NULL},
    {"unknown compression", HEADER, 104, 4, 2u << 24, "compression-type", NULL},
    {"zstd without its bit", HEADER, 104, 4, 1u << 24, "compression-type", NULL},
    {"an extension of 4 GiB", HEADER, 116, 4, UINT32_MAX, "header-extension", NULL},
    {"an extension for encryption", HEADER, 112, 4, 0x0537be77, "encryption", NULL},
    {"an extension for a data file", HEADER, 112, 4, 0x44415441, "data-file", NULL},
    {"an L2 beyond the end", L1, 0, 8, UINT64_C(1) << 50, "truncated", NULL},
    {"an L2 off its cluster", L1, 0, 8, 0x40200, "reserved-bits", NULL},
    {"reserved bits in L1", L1, 0, 8, 0x40001, "reserved-bits", NULL},
    {"the header as L2", L1, 0, 8, UINT64_C(1) << 63, NULL, NULL}, /* offset 0: no table, an empty disk */
    {"the L1 as L2", L1, 0, 8, 0x30000, "overlap", "table-order"},
    {"the refcount table as L2", L1, 0, 8, 0x10000, "overlap", NULL},
    {"a refcount block as L2", L1, 0, 8, 0x20000, "overlap", ""},
    {"data beyond the end", L2, 0, 8, UINT64_C(1) << 50, "truncated", NULL},
    {"data off its cluster", L2, 0, 8, 0x50200, "reserved-bits", NULL},
    {"reserved bits in L2", L2, 0, 8, 0x50002, "reserved-bits", NULL},
    {"reserved high bits in L2", L2, 0, 8, UINT64_C(1) << 57 | 0x50000, "reserved-bits", NULL},
    {"data in the L2 itself", L2, 0, 8, 0x40000, "overlap", "table-order"},
    {"data in the L1", L2, 0, 8, 0x30000, "overlap", "table-order"},
    {"data in the refcount table", L2, 0, 8, 0x10000, "overlap", NULL},
    {"one cluster for two places", L2, 8, 8, 0x50000, "overlap", "table-order"},
    {"a compressed cluster beyond the end", L2, 0, 8, UINT64_C(1) << 62 | UINT64_C(1) << 45, "truncated",
     NULL},
    {"a compressed cluster in the header", L2, 0, 8, UINT64_C(1) << 62 | 0x10, "overlap", NULL},
    {"a copied compressed cluster", L2, 0, 8, UINT64_C(3) << 62 | 0x50000, "reserved-bits", NULL},
    {"a refcount block off its cluster", REFCOUNT_TABLE, 0, 8, 0x20008, "refcount-block", ""},
    {"a refcount block beyond the end", REFCOUNT_TABLE, 0, 8, UINT64_C(1) << 40, "truncated", ""},
    {"the header as refcount block", REFCOUNT_TABLE, 8, 8, 0x30000, "overlap", ""},
};

/* An image of 4 MiB, all of it data that compresses by half. Uncompressed with 64 KiB clusters: cluster 1
 * refcount table, 2 block, 3 L1, 4 L2, 5... data. */
static struct bytes base_image(const char *options)
{
        static uint8_t disk[4 << 20];
        uint32_t seed = 77;

        for (size_t i = 0; i < sizeof(disk); i++)
                disk[i] = (uint8_t)(random_next(&seed) % 15 + 'A');
        file_save("disk.raw", disk, sizeof(disk));
        sh("qemu-img convert -f raw -O qcow2 %s disk.raw base.qcow2", options);
        return file_load("base.qcow2");
}

static uint64_t place_offset(const struct bytes *b, enum place place)
{
        uint64_t l1 = get_be64(b->data + 40);

        switch (place) {
        case HEADER:
                return 0;
        case L1:
                return l1;
        case L2:
                return get_be64(b->data + l1) & 0x00fffffffffffe00;
        case REFCOUNT_TABLE:
                return get_be64(b->data + 48);
        }
        return 0;
}

/* A source that was exchanged after its inspection: reading may fail or give nonsense, but never leaves the
 * bounds. */
static void read_uninspected(const struct source *src, const struct image_info *info)
{
        struct image_info clean = *info;
        struct err err = {0};

        clean.n_refusals = 0;
        if (clean.virtual_size == 0 || clean.virtual_size > 64 << 20)
                clean.virtual_size = 4 << 20;
        free(disk_read(src, &clean, 5, &err));
}

static void test_patches(void **state)
{
        struct bytes base = base_image("");
        struct source src = memory_source(&base);

        for (size_t i = 0; i < ARRAY_SIZE(patches); i++) {
                const struct patch *p = &patches[i];
                uint64_t at = place_offset(&base, p->place) + p->offset, size;
                uint8_t saved[8], *got;
                struct image_info info;
                struct err err = {0};
                const char *expected = p->stream ? p->stream : p->code;

                memcpy(saved, base.data + at, 8);
                if (p->len == 8)
                        put_be64(base.data + at, p->value);
                else
                        put_be32(base.data + at, (uint32_t)p->value);
                assert_int_equal(image_inspect(&src, IMAGE_QCOW2, &info, &err), 0);
                if (p->code ? !refused_with(&info, p->code) : info.n_refusals > 0)
                        fail_msg("%s: %zu refusals, first %s", p->name, info.n_refusals,
                                 info.refusals[0].code);
                assert_true(info.virtual_size <= INT64_MAX); /* as a JSON document can say it */
                got = disk_stream(&src, IMAGE_QCOW2, true, 3, &size, &err);
                if (p->code && expected[0] && (got || err.code != -EBADMSG || !strstr(err.text, expected)))
                        fail_msg("%s: stream: %s", p->name, got ? "accepted" : err_text(&err));
                free(got);
                read_uninspected(&src, &info);
                memcpy(base.data + at, saved, 8);
        }
        free(base.data);
}

/* A refusal says all that a person needs to find the field. */
static void test_refusal_text(void **state)
{
        static const char name[] = "/etc/shadow\n\x1b[2J";
        struct bytes base = base_image("");
        struct source src = memory_source(&base);
        struct image_info info;
        struct err err = {0};
        struct image *img = NULL;

        put_be64(base.data + 8, 0x800);
        put_be32(base.data + 16, sizeof(name) - 1);
        memcpy(base.data + 0x800, name, sizeof(name));
        put_be32(base.data + 32, 1);
        assert_int_equal(image_inspect(&src, IMAGE_RAW, &info, &err), 0);
        assert_int_equal(info.n_refusals, 3); /* all of them at once */
        assert_true(refused_with(&info, "format-mismatch") && refused_with(&info, "encryption"));
        assert_string_equal(info.refusals[1].code, "backing-file");
        assert_string_equal(info.refusals[1].field, "backing_file_offset");
        assert_string_equal(info.refusals[1].value, "/etc/shadow??[2J");
        assert_int_equal(image_open(&src, &info, &img, &err), -EBADMSG);
        free(base.data);
}

static void test_mismatch(void **state)
{
        static const struct {
                const char *bytes;
                size_t len, at;
        } foreign[] = {{"COWD", 4, 0},
                       {"QED", 4, 0},
                       {"\x1f\x8b", 2, 0},
                       {"\xfd"
                        "7zXZ",
                        6, 0},
                       {"QFI\xfb\0\0\0\1", 8, 0}};
        struct bytes base = base_image(""), zeros = {calloc(1, 65536), 65536};
        struct source src = memory_source(&base), empty = {0};
        struct image_info info;
        struct err err = {0};
        uint64_t size;

        assert_int_equal(image_inspect(&src, IMAGE_RAW, &info, &err), 0);
        assert_true(refused_with(&info, "format-mismatch"));
        assert_null(disk_stream(&src, IMAGE_RAW, true, 1, &size, &err));
        assert_int_equal(err.code, -EBADMSG);
        assert_non_null(strstr(err.text, "format-mismatch"));
        assert_null(disk_stream(&src, IMAGE_ISO9660, true, 1, &size, &err));
        src = memory_source(&zeros);
        assert_int_equal(image_inspect(&src, IMAGE_QCOW2, &info, &err), 0);
        assert_true(refused_with(&info, "format-mismatch"));
        for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
                memset(zeros.data, 0, zeros.len);
                memcpy(zeros.data + foreign[i].at, foreign[i].bytes, foreign[i].len);
                assert_int_equal(image_inspect(&src, IMAGE_RAW, &info, &err), 0);
                assert_true(refused_with(&info, "unsupported-format"));
                assert_null(disk_stream(&src, IMAGE_RAW, true, 1, &size, &err));
        }
        assert_int_equal(image_inspect(&empty, -1, &info, &err), 0);
        assert_true(refused_with(&info, "empty"));
        free(zeros.data);
        free(base.data);
}

/* Cut anywhere, an image is refused, or fails to be read, or nothing was lost. */
static void truncate_everywhere(const char *options, bool strict)
{
        struct bytes base = base_image(options), want = file_load("disk.raw");
        size_t accepted = 0;

        for (size_t len = 0; len < base.len; len += len < 1200 ? 7 : base.len - len < 1100 ? 3 : 60013) {
                struct bytes cut = {malloc(len ? len : 1), len};
                struct source src = memory_source(&cut);
                struct image_info info;
                struct err err = {0};
                uint8_t *read = NULL, *streamed;
                uint64_t size = 0;

                memcpy(cut.data, base.data, len);
                assert_int_equal(image_inspect(&src, len < 4 ? -1 : IMAGE_QCOW2, &info, &err), 0);
                if (strict && info.n_refusals == 0 && len >= 4)
                        fail_msg("%s: cut at %zu of %zu: accepted", options, len, base.len);
                if (info.format == IMAGE_QCOW2) {
                        if (info.n_refusals == 0)
                                read = disk_read(&src, &info, 5, &err);
                        else
                                read_uninspected(&src, &info);
                }
                streamed = disk_stream(&src, IMAGE_QCOW2, len % 2, 5, &size, &err);
                accepted += read != NULL;
                assert_true(!read || memcmp(read, want.data, want.len) == 0);
                assert_true(!streamed || memcmp(streamed, want.data, want.len) == 0);
                assert_int_equal(!read, !streamed);
                free(read);
                free(streamed);
                free(cut.data);
        }
        assert_true(!strict || accepted == 0);
        free(base.data);
        free(want.data);
}

static void test_truncated(void **state)
{
        truncate_everywhere("", true);
        truncate_everywhere("-o compat=0.10,cluster_size=4k", true);
        truncate_everywhere("-c", false); /* the padding of the last sector may go */
        truncate_everywhere("-c -o compression_type=zstd", false);
}

/* An upload that ends before, or goes on after, what was announced. */
static void test_announced_size(void **state)
{
        static const enum image_format formats[] = {IMAGE_RAW, IMAGE_QCOW2};
        struct bytes base = base_image("");

        for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
                for (int longer = 0; longer < 2; longer++) {
                        struct bytes b = base;
                        struct source src;
                        struct err err = {0};
                        uint64_t size = 0;
                        uint8_t *got;

                        if (formats[i] == IMAGE_RAW)
                                b = file_load("disk.raw");
                        src = memory_source(&b);
                        got = disk_stream(&src, formats[i], true, 8, &size, &err);
                        assert_non_null(got);
                        free(got);
                        got = disk_stream_sized(&src, formats[i], src.size + (longer ? 512 : -512), &err);
                        assert_null(got);
                        assert_int_equal(err.code, -EBADMSG);
                        if (formats[i] == IMAGE_RAW)
                                free(b.data);
                }
        free(base.data);
}

/* 2 MiB clusters, each L2 entry the same few compressed bytes: a file of 8 MiB as a disk of 512 GiB. */
static void test_bomb(void **state)
{
        struct bytes base;
        struct source src;
        struct image_info info;
        struct err err = {0};
        uint64_t l2, entry, size;

        sh("qemu-img create -q -f raw disk.raw 4M && qemu-io -f raw -c 'write -q -P 65 0 2M' disk.raw");
        sh("qemu-img convert -f raw -O qcow2 -c -o cluster_size=2M disk.raw base.qcow2");
        base = file_load("base.qcow2");
        src = memory_source(&base);
        l2 = place_offset(&base, L2);
        entry = get_be64(base.data + l2);
        assert_true(entry >> 62 == 1);
        put_be64(base.data + 24, UINT64_C(512) << 30);
        for (unsigned i = 0; i < 262144; i++)
                put_be64(base.data + l2 + 8 * i, entry);
        assert_int_equal(image_inspect(&src, -1, &info, &err), 0);
        assert_true(refused_with(&info, "overlap") || refused_with(&info, "expansion"));
        put_be64(base.data + 24,
                 64 << 20); /* small enough for inspect's eye, the stream still sees the second use */
        assert_null(disk_stream(&src, IMAGE_QCOW2, true, 1, &size, &err));
        assert_non_null(strstr(err.text, "table-order"));
        free(base.data);
}

/* A data cluster and a compressed one in the same place, whichever of them the table names first. */
static void test_compressed_overlap(void **state)
{
        struct bytes base = base_image("-c");
        struct source src = memory_source(&base);
        uint64_t l2 = place_offset(&base, L2);

        for (unsigned plain = 0; plain < 2; plain++) {
                uint64_t packed = get_be64(base.data + l2 + 8 * !plain),
                         was = get_be64(base.data + l2 + 8 * plain);
                uint64_t host = packed & ((UINT64_C(1) << 54) - 1), size;
                struct image_info info;
                struct err err = {0};

                put_be64(base.data + l2 + 8 * plain, host & ~UINT64_C(0xffff));
                assert_int_equal(image_inspect(&src, -1, &info, &err), 0);
                assert_true(refused_with(&info, "overlap"));
                assert_null(disk_stream(&src, IMAGE_QCOW2, true, 1, &size, &err));
                assert_int_equal(err.code, -EBADMSG);
                put_be64(base.data + l2 + 8 * plain, was);
        }
        free(base.data);
}

/* Random damage to tables and header: whatever is accepted can be read inside the bounds. */
static void test_random_damage(void **state)
{
        struct bytes base = base_image("-c -o cluster_size=4k");
        struct source src = memory_source(&base);
        uint32_t seed = 12345;
        unsigned accepted = 0;

        for (int i = 0; i < 400; i++) {
                static const unsigned starts[] = {0, 0x1000, 0x3000, 0x4000};
                size_t at = starts[random_next(&seed) % 4] + random_next(&seed) % (i % 2 ? 128 : 4096);
                uint8_t was = base.data[at], *got;
                struct image_info info;
                struct err err = {0};
                uint64_t size;

                base.data[at] ^= (uint8_t)(1u << random_next(&seed) % 8);
                assert_int_equal(image_inspect(&src, -1, &info, &err), 0);
                if (info.n_refusals == 0 && info.virtual_size <= 64 << 20) {
                        accepted++;
                        free(disk_read(&src, &info, 5, &err));
                }
                got = disk_stream(&src, IMAGE_QCOW2, true, 5, &size, &err);
                free(got);
                base.data[at] = was;
        }
        assert_true(accepted > 0 && accepted < 400);
        free(base.data);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_patches),        cmocka_unit_test(test_refusal_text),
            cmocka_unit_test(test_mismatch),       cmocka_unit_test(test_truncated),
            cmocka_unit_test(test_announced_size), cmocka_unit_test(test_bomb),
            cmocka_unit_test(test_random_damage),  cmocka_unit_test(test_compressed_overlap),
        };

        return cmocka_run_group_tests_name("formats-hostile", tests, work_begin, work_end);
}
