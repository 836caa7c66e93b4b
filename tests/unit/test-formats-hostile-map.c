/* SPDX-License-Identifier: Apache-2.0 */
#include "test-formats-util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"

/* What an attacker or a broken disk would change in an image of 8 MiB with data in its first and third MiB.
 */
#define FOOTER 0
#define BAT_VHD 1536
#define META_VHDX ((3 << 20) + (64 << 10))
#define BAT_VHDX (2 << 20)

static const struct patch {
        const char *name;
        enum image_format format;
        uint64_t offset;
        size_t len;
        uint64_t value; /* in the format's byte order */
        const char *code;
} patches[] = {
    {"vmdk: a version of tomorrow", IMAGE_VMDK, 4, 4, 9, "version"},
    {"vmdk: an endless disk", IMAGE_VMDK, 12, 8, UINT64_C(1) << 60, "size"},
    {"vmdk: a size that wraps", IMAGE_VMDK, 12, 8, UINT64_MAX, "size"},
    {"vmdk: no grains", IMAGE_VMDK, 20, 8, 0, "grain-size"},
    {"vmdk: an odd grain", IMAGE_VMDK, 20, 8, 100, "grain-size"},
    {"vmdk: no descriptor", IMAGE_VMDK, 28, 8, 0, "extents"},
    {"vmdk: a huge descriptor", IMAGE_VMDK, 36, 8, UINT64_C(1) << 40, "descriptor"},
    {"vmdk: a descriptor far away", IMAGE_VMDK, 28, 8, UINT64_C(1) << 55, "descriptor"},
    {"vmdk: no entries in a table", IMAGE_VMDK, 44, 4, 0, "table-bounds"},
    {"vmdk: too many entries in a table", IMAGE_VMDK, 44, 4, 1 << 30, "table-bounds"},
    {"vmdk: a directory beyond the end", IMAGE_VMDK, 56, 8, UINT64_C(1) << 54, "table-bounds"},
    {"vmdk: a footer that is not there", IMAGE_VMDK, 56, 8, UINT64_MAX, "truncated"},
    {"vmdk: compressed without markers", IMAGE_VMDK, 8, 4, 0x10003, "unknown-feature"},
    {"vmdk: changed line ends", IMAGE_VMDK, 73, 4, 0x20202020, "corrupt"},
    {"vdi: a version of tomorrow", IMAGE_VDI, 68, 4, 0x20000, "version"},
    {"vdi: differencing", IMAGE_VDI, 76, 4, 4, "differencing"},
    {"vdi: a parent", IMAGE_VDI, 440, 4, 1, "differencing"},
    {"vdi: a link", IMAGE_VDI, 424, 4, 1, "differencing"},
    {"vdi: an unknown kind", IMAGE_VDI, 76, 4, 77, "image-type"},
    {"vdi: an endless disk", IMAGE_VDI, 368, 8, UINT64_C(1) << 60, "size"},
    {"vdi: a size that wraps", IMAGE_VDI, 368, 8, UINT64_MAX, "size"},
    {"vdi: no block size", IMAGE_VDI, 376, 4, 0, "block-size"},
    {"vdi: extra bytes", IMAGE_VDI, 380, 4, 512, "block-size"},
    {"vdi: too few blocks", IMAGE_VDI, 384, 4, 1, "table-bounds"},
    {"vdi: the map in the header", IMAGE_VDI, 340, 4, 0, "table-bounds"},
    {"vdi: data in the map", IMAGE_VDI, 344, 4, 512, "table-bounds"},
    {"vdi: a block beyond the end", IMAGE_VDI, 512, 4, 0x10000000, "truncated"},
    {"vdi: one block for two places", IMAGE_VDI, 516, 4, 0, "overlap"},
    {"vhd: differencing", IMAGE_VHD, FOOTER + 60, 4, 4, "differencing"},
    {"vhd: an unknown kind", IMAGE_VHD, FOOTER + 60, 4, 9, "image-type"},
    {"vhd: a version of tomorrow", IMAGE_VHD, FOOTER + 12, 4, 0x20000, "version"},
    {"vhd: a header beyond the end", IMAGE_VHD, FOOTER + 16, 8, UINT64_C(1) << 50, "truncated"},
    {"vhd: a header in the footer", IMAGE_VHD, FOOTER + 16, 8, 0, "header"},
    {"vhd: an endless disk", IMAGE_VHD, FOOTER + 48, 8, UINT64_C(1) << 60, "size"},
    {"vhd: no block size", IMAGE_VHD, 512 + 32, 4, 0, "block-size"},
    {"vhd: a table beyond the end", IMAGE_VHD, 512 + 16, 8, UINT64_C(1) << 50, "truncated"},
    {"vhd: a table too small", IMAGE_VHD, 512 + 28, 4, 1, "table-bounds"},
    {"vhd: a block beyond the end", IMAGE_VHD, BAT_VHD, 4, 0x10000000, "truncated"},
    {"vhd: a block in the footer", IMAGE_VHD, BAT_VHD, 4, 0, "overlap"},
    {"vhdx: no version", IMAGE_VHDX, 66, 2, 7, "version"},
    {"vhdx: a log to replay", IMAGE_VHDX, 48, 4, 1, "log-replay"},
    {"vhdx: a log beyond the end", IMAGE_VHDX, 72, 8, UINT64_C(1) << 50, "truncated"},
    {"vhdx: no block size", IMAGE_VHDX, META_VHDX, 4, 0, "block-size"},
    {"vhdx: a parent", IMAGE_VHDX, META_VHDX + 4, 4, 2, "differencing"},
    {"vhdx: an endless disk", IMAGE_VHDX, META_VHDX + 8, 8, UINT64_C(1) << 60, "size"},
    {"vhdx: a block beyond the end", IMAGE_VHDX, BAT_VHDX, 8, UINT64_C(1) << 50 | 6, "truncated"},
    {"vhdx: a block in the headers", IMAGE_VHDX, BAT_VHDX, 8, 6, "overlap"},
    {"vhdx: a state of a child", IMAGE_VHDX, BAT_VHDX, 8, 4 << 20 | 7, "table-entry"},
    {"vhdx: reserved bits", IMAGE_VHDX, BAT_VHDX, 8, 4 << 20 | 0x1000 | 6, "table-entry"},
};

static struct bytes make(enum image_format format)
{
        static const char *const commands[IMAGE_FORMAT_MAX] = {
            [IMAGE_VMDK] = "vmdk",
            [IMAGE_VDI] = "vdi",
            [IMAGE_VHD] = "vpc -o force_size=on",
            [IMAGE_VHDX] = "vhdx -o block_size=1M,log_size=1M",
        };

        sh("rm -f base.img && qemu-img create -q -f raw disk.raw 8M && "
           "qemu-io -f raw -c 'write -q -P 65 0 1M' -c 'write -q -P 66 2M 1M' disk.raw && "
           "qemu-img convert -f raw -O %s disk.raw base.img",
           commands[format]);
        return file_load("base.img");
}

/* A VHD's checksum lies at `at` in a structure of len bytes. */
static void vhd_sum(uint8_t *p, size_t len, size_t at)
{
        uint32_t sum = 0;

        put_be32(p + at, 0);
        for (size_t i = 0; i < len; i++)
                sum += p[i];
        put_be32(p + at, ~sum);
}

static void vhdx_sum(uint8_t *p, size_t len)
{
        uint32_t crc = UINT32_MAX;

        put_le32(p + 4, 0);
        for (size_t i = 0; i < len; i++) {
                crc ^= p[i];
                for (int k = 0; k < 8; k++)
                        crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
        put_le32(p + 4, ~crc);
}

static void apply(struct bytes *b, const struct patch *p)
{
        bool header = p->format == IMAGE_VHDX && p->offset < 4096;

        for (int copy = 0; copy < (header ? 2 : 1); copy++)
                for (size_t i = 0; i < p->len; i++) {
                        size_t at = p->offset + (header ? (size_t)(copy + 1) << 16 : 0);
                        unsigned shift = 8 * (unsigned)(p->format == IMAGE_VHD ? p->len - 1 - i : i);

                        b->data[at + i] = (uint8_t)(p->value >> shift);
                }
        if (p->format == IMAGE_VHD) {
                vhd_sum(b->data, 512, 64);
                vhd_sum(b->data + 512, 1024, 36);
                memcpy(b->data + b->len - 512, b->data, 512);
        }
        if (header) {
                vhdx_sum(b->data + (64 << 10), 4096);
                vhdx_sum(b->data + (128 << 10), 4096);
        }
}

static void test_patches(void **state)
{
        struct bytes base = {0};
        enum image_format made = IMAGE_RAW;

        for (size_t i = 0; i < ARRAY_SIZE(patches); i++) {
                const struct patch *p = &patches[i];
                struct bytes b;
                struct source src;
                struct image_info info;
                struct err err = {0};
                uint64_t size;
                uint8_t *got;

                if (p->format != made) {
                        free(base.data);
                        base = make(p->format);
                        made = p->format;
                }
                b = (struct bytes){malloc(base.len), base.len};
                memcpy(b.data, base.data, b.len);
                src = memory_source(&b);
                assert_int_equal(image_inspect(&src, (int)p->format, &info, &err), 0);
                assert_int_equal(info.n_refusals, 0);
                apply(&b, p);
                assert_int_equal(image_inspect(&src, (int)p->format, &info, &err), 0);
                if (!refused_with(&info, p->code))
                        fail_msg("%s: %zu refusals, first %s", p->name, info.n_refusals,
                                 info.refusals[0].code);
                got = disk_stream(&src, p->format, true, 3, &size, &err);
                if (got || err.code != -EBADMSG)
                        fail_msg("%s: stream: %s", p->name, got ? "accepted" : err_text(&err));
                info.n_refusals = 0; /* exchanged after its inspection: never beyond the bounds */
                info.virtual_size = 8 << 20;
                free(disk_read(&src, &info, 5, &err));
                free(b.data);
        }
        free(base.data);
}

/* Cut anywhere, an image is refused, and so is its stream. */
static void test_truncated(void **state)
{
        static const enum image_format formats[] = {IMAGE_VMDK, IMAGE_VDI, IMAGE_VHD, IMAGE_VHDX};

        for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
                struct bytes base = make(formats[f]);

                for (size_t len = 0; len < base.len - 512; len += len < 4096 ? 411 : 700001) {
                        struct bytes cut = {malloc(len ? len : 1), len};
                        struct source src = memory_source(&cut);
                        struct image_info info;
                        struct err err = {0};
                        uint64_t size;

                        memcpy(cut.data, base.data, len);
                        assert_int_equal(image_inspect(&src, (int)formats[f], &info, &err), 0);
                        if (info.n_refusals == 0)
                                fail_msg("%s cut at %zu of %zu: accepted", image_format_name(formats[f]),
                                         len, base.len);
                        assert_null(disk_stream(&src, formats[f], true, 5, &size, &err));
                        free(cut.data);
                }
                free(base.data);
        }
}

/* Grains that name each other, a marker that lies, damaged data: found, and never read beyond. */
static void test_packed_damage(void **state)
{
        struct bytes base;
        struct source src;
        uint32_t seed = 99;
        unsigned refused = 0;

        sh("rm -f base.img && qemu-img create -q -f raw disk.raw 4M && qemu-io -f raw -c 'write -q -P 65 0 "
           "2M' "
           "disk.raw && qemu-img convert -f raw -O vmdk -o subformat=streamOptimized disk.raw base.img");
        base = file_load("base.img");
        src = memory_source(&base);
        for (int i = 0; i < 300; i++) {
                size_t at = random_next(&seed) % base.len;
                uint8_t was = base.data[at];
                struct image_info info;
                struct err err = {0};
                uint64_t size;

                base.data[at] ^= (uint8_t)(1 + random_next(&seed) % 255);
                assert_int_equal(image_inspect(&src, -1, &info, &err), 0);
                refused += info.n_refusals > 0;
                if (info.n_refusals == 0 && info.virtual_size <= 64 << 20)
                        free(disk_read(&src, &info, 5, &err));
                free(disk_stream(&src, IMAGE_VMDK, true, 5, &size, &err));
                base.data[at] = was;
        }
        assert_true(refused > 0);
        free(base.data);
}

/* Whatever the file says in words reaches terminals and JSON documents as printable ASCII. */
static void test_texts_are_printable(void **state)
{
        struct bytes b = make(IMAGE_VMDK);
        struct source src = memory_source(&b);
        uint8_t *type = memmem(b.data, 64 << 10, "SPARSE", 6);
        struct image_info info;
        struct err err = {0};

        assert_non_null(type);
        memcpy(type, "S\xff\x1b[1m", 6);
        assert_int_equal(image_inspect(&src, -1, &info, &err), 0);
        assert_int_equal(info.n_refusals, 1);
        assert_string_equal(info.refusals[0].code, "extent-type");
        assert_string_equal(info.refusals[0].value, "S??[1m");
        assert_string_equal(info.fields[info.n_fields - 1].value, "RW 16384 S??[1m");
        free(b.data);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_patches),
            cmocka_unit_test(test_truncated),
            cmocka_unit_test(test_packed_damage),
            cmocka_unit_test(test_texts_are_printable),
        };

        return cmocka_run_group_tests_name("formats-hostile-map", tests, work_begin, work_end);
}
