/* SPDX-License-Identifier: Apache-2.0 */
#include "test-formats-util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"

/* What we write, read by other people's programs: qemu-img, qemu-io, isoinfo, xorriso. */
static void overlay_save(const char *path, uint64_t size, const char *backing)
{
        struct err err = {0};
        uint8_t *data;
        size_t len;

        if (qcow2_overlay(size, backing, &data, &len, &err) < 0)
                fail_msg("%s", err_text(&err));
        assert_true(len <= 512 * 1024);
        file_save(path, data, len);
        free(data);
}

static void overlay_info(const char *path, uint64_t size, const char *backing)
{
        _cleanup_(freep) char *text = sh_text("qemu-img info --backing-chain --output=json %s", path);
        _cleanup_(json_decrefpp) json_t *chain = NULL;
        const json_t *top, *data;
        struct err err = {0};

        assert_int_equal(json_parse(text, "qemu-img", &chain, &err), 0);
        assert_int_equal(json_array_size(chain), backing ? 2 : 1);
        top = json_array_get(chain, 0);
        assert_string_equal(json_get_str(top, "format", ""), "qcow2");
        assert_int_equal(json_get_int(top, "virtual-size", 0), size);
        assert_int_equal(json_get_int(top, "cluster-size", 0), 131072);
        data = json_object_get(json_object_get(top, "format-specific"), "data");
        assert_true(json_get_bool(data, "extended-l2", false));
        if (!backing)
                return;
        assert_string_equal(json_get_str(top, "backing-filename", ""), backing);
        assert_string_equal(json_get_str(top, "backing-filename-format", ""), "raw");
        assert_string_equal(json_get_str(json_array_get(chain, 1), "format", ""), "raw");
}

static void test_overlay(void **state)
{
        static const uint64_t sizes[] = {512,
                                         1 << 20,
                                         (UINT64_C(512) << 20),
                                         (UINT64_C(512) << 20) + 512,
                                         UINT64_C(100) << 30,
                                         UINT64_C(16) << 40};

        sh("qemu-img create -q -f raw golden.raw 64k && qemu-io -f raw -c 'write -q -P 3 0 64k' golden.raw");
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                for (int backed = 0; backed < 2; backed++) {
                        const char *backing = backed ? "golden.raw" : NULL;
                        struct image_info info;
                        struct bytes b;
                        struct source src;
                        struct err err = {0};

                        overlay_save("overlay.qcow2", sizes[i], backing);
                        sh("qemu-img check -q overlay.qcow2");
                        overlay_info("overlay.qcow2", sizes[i], backing);
                        b = file_load("overlay.qcow2");
                        src = memory_source(&b);
                        assert_int_equal(image_inspect(&src, IMAGE_QCOW2, &info, &err), 0);
                        assert_int_equal(info.n_refusals, backed); /* as an upload it names another file */
                        assert_true(!backed || refused_with(&info, "backing-file"));
                        assert_true(info.virtual_size == sizes[i]);
                        free(b.data);
                        if (sizes[i] < 1 << 20)
                                continue;
                        sh("qemu-io -c 'write -q -P 9 4k 4k' -c 'write -q -P 8 %" PRIu64 " 64k' "
                           "-c 'write -q -P 7 256k 64k' overlay.qcow2",
                           sizes[i] - 65536);
                        sh("qemu-io -c 'read -q -P %d 0 4k' -c 'read -q -P 9 4k 4k' -c 'read -q -P 8 "
                           "%" PRIu64 " 64k' "
                           "-c 'read -q -P 0 512k 64k' overlay.qcow2 | (! grep -i fail)",
                           backed ? 3 : 0, sizes[i] - 65536);
                        sh("qemu-img check -q overlay.qcow2");
                }
}

/* Grows past what its first refcount block covers (2 GiB of file): QEMU adds blocks to the table we wrote.
 */
static void test_overlay_grows(void **state)
{
        overlay_save("grow.qcow2", UINT64_C(100) << 30, NULL);
        sh("qemu-img resize -q --preallocation=metadata grow.qcow2 103G && qemu-img check -q grow.qcow2");
        sh("qemu-io -c 'write -q -P 5 102G 1M' -c 'write -q -P 6 0 1M' grow.qcow2 && qemu-img check -q "
           "grow.qcow2");
        sh("qemu-io -c 'read -q -P 5 102G 1M' -c 'read -q -P 6 0 1M' grow.qcow2 | (! grep -i fail)");
}

static void test_overlay_arguments(void **state)
{
        char name[1025];
        struct err err = {0};
        uint8_t *data = NULL;
        size_t len;

        assert_int_equal(qcow2_overlay(0, NULL, &data, &len, &err), -EINVAL);
        assert_int_equal(qcow2_overlay(513, NULL, &data, &len, &err), -EINVAL);
        assert_int_equal(qcow2_overlay((UINT64_C(16) << 40) + 512, NULL, &data, &len, &err), -EINVAL);
        assert_int_equal(qcow2_overlay(512, "", &data, &len, &err), -EINVAL);
        memset(name, 'x', 1024);
        name[1024] = '\0';
        assert_int_equal(qcow2_overlay(512, name, &data, &len, &err), -EINVAL);
        name[1023] = '\0';
        assert_int_equal(qcow2_overlay(512, name, &data, &len, &err), 0);
        free(data);
}

static void iso_save(const char *path, const struct iso_file *files, size_t n)
{
        struct err err = {0};
        uint8_t *data;
        size_t len;

        if (iso_write("cidata", files, n, &data, &len, &err) < 0)
                fail_msg("%s", err_text(&err));
        file_save(path, data, len);
        free(data);
}

static void test_iso(void **state)
{
        static char content[64][5000], names[64][65];
        struct iso_file files[64];
        _cleanup_(freep) char *volume = NULL, *text = NULL, *joliet = NULL, *plain = NULL;
        uint32_t seed = 3;

        for (size_t i = 0; i < 64; i++) {
                for (size_t k = 0; k < sizeof(content[i]); k++)
                        content[i][k] = (char)random_next(&seed);
                /* long names that differ only where ISO 9660's own names end, or only in case */
                snprintf(names[i], sizeof(names[i]),
                         i % 2 ? "a-name-of-many-characters-to-fill-a-sector.%zu" : "N%zu", i);
                files[i] = (struct iso_file){names[i], content[i], i == 0 ? 0 : i * 75 + 1};
        }
        files[0].name = "meta-data";
        files[2].name = "META-DATA";
        iso_save("many.iso", files, 64);
        sh("mkdir many && xorriso -osirrox on -indev many.iso -extract / many 2>/dev/null >/dev/null");
        for (size_t i = 0; i < 64; i++) {
                char path[100];
                struct bytes b;

                snprintf(path, sizeof(path), "many/%s", files[i].name);
                b = file_load(path);
                assert_int_equal(b.len, files[i].len);
                assert_memory_equal(b.data, files[i].data, b.len);
                free(b.data);
        }
        volume = sh_text("isoinfo -d -i many.iso");
        assert_non_null(strstr(volume, "Volume id: cidata\n"));
        assert_non_null(strstr(volume, "Joliet with UCS level 3 found"));
        assert_non_null(strstr(volume, "Rock Ridge signatures version 1 found"));
        text = sh_text("isoinfo -R -f -i many.iso | sort | head -1000");
        joliet = sh_text("isoinfo -J -f -i many.iso | sort | head -1000");
        assert_string_equal(text, joliet);
        assert_non_null(strstr(text, "/meta-data\n"));
        plain = sh_text("isoinfo -f -i many.iso | sort | uniq | wc -l");
        assert_string_equal(plain, "64\n"); /* without extensions all names differ, too */
        sh("isoinfo -J -x /meta-data -i many.iso | cmp - many/meta-data");
        sh("isoinfo -x '/N4.;1' -i many.iso | cmp - many/N4");
}

static void test_iso_arguments(void **state)
{
        static const struct iso_file bad[] = {
            {"", "", 0}, {"a/b", "", 0}, {".hidden", "", 0}, {"\xc3\xa4", "", 0}, {"a file", "", 0}};
        static const struct iso_file twice[] = {{"a", "", 0}, {"a", "", 0}};
        struct err err = {0};
        uint8_t *data;
        size_t len;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(iso_write("cidata", &bad[i], 1, &data, &len, &err), -EINVAL);
        assert_int_equal(iso_write("cidata", twice, 2, &data, &len, &err), -EEXIST);
        assert_int_equal(iso_write("a label of 17 chars", NULL, 0, &data, &len, &err), -EINVAL);
}

static void inspect_file(const char *path, int declared, struct image_info *ret, size_t cut)
{
        struct bytes b = file_load(path);
        struct source src;
        struct err err = {0};

        b.len -= cut;
        b.data = realloc(b.data, b.len);
        src = memory_source(&b);
        assert_int_equal(image_inspect(&src, declared, ret, &err), 0);
        if (ret->n_refusals == 0) {
                uint64_t size = 0;
                uint8_t *got = disk_stream(&src, IMAGE_ISO9660, true, 6, &size, &err);

                assert_non_null(got);
                assert_true(size == ret->virtual_size && size >= b.len);
                assert_memory_equal(got, b.data, b.len);
                free(got);
        }
        free(b.data);
}

static void patch_file(const char *from, const char *to, size_t at, const void *bytes, size_t len)
{
        struct bytes b = file_load(from);

        memcpy(b.data + at, bytes, len);
        file_save(to, b.data, b.len);
        free(b.data);
}

/* ISO images of another program: recognised, and their lies seen. */
static void test_iso_inspect(void **state)
{
        static const struct {
                size_t at;
                const char *bytes;
                size_t len;
                const char *code;
        } lies[] = {
            {0x8000 + 80, "\xff\xff\xff\x7f", 4, "truncated"},
            {0x8000 + 128, "\x00\x10", 2, "block-size"},
            {0x8000 + 140, "\xff\xff\xff\x7f", 4, "truncated"},
            {0x8000 + 132, "\xff\xff\xff\xff", 4, "truncated"},
            {0x8000 + 158, "\xff\xff\xff\x7f", 4, "truncated"},
            {0x8000 + 156, "\x00", 1, "root-directory"},
            {0x8800 + 71, "\xff\xff\xff\xff", 4, "truncated"},
            {0x8801, "CD002", 5, "descriptor"},
            {0x8000, "\x09", 1, "descriptor"},
        };
        struct image_info info;
        struct iso_file file = {"meta-data", "x", 1};

        iso_save("own.iso", &file, 1);
        inspect_file("own.iso", IMAGE_ISO9660, &info, 0);
        assert_int_equal(info.n_refusals, 0);
        assert_string_equal(info.label, "cidata");
        assert_false(info.bootable);
        sh("mkdir tree && head -c 3000000 /dev/urandom > tree/file && head -c 2048 /dev/zero > "
           "tree/boot.img");
        sh("xorriso -as mkisofs -quiet -V INSTALL_1 -J -R -b boot.img -no-emul-boot -o boot.iso tree "
           "2>/dev/null");
        inspect_file("boot.iso", -1, &info, 0);
        assert_int_equal(info.n_refusals, 0);
        assert_int_equal(info.format, IMAGE_ISO9660);
        assert_string_equal(info.label, "INSTALL_1");
        assert_true(info.bootable);
        inspect_file("boot.iso", IMAGE_RAW, &info, 0);
        assert_true(refused_with(&info, "format-mismatch"));
        inspect_file("boot.iso", -1, &info, 1 << 20);
        assert_true(refused_with(&info, "truncated"));
        inspect_file("boot.iso", -1, &info, info.file_size - 0x8800);
        assert_true(refused_with(&info, "truncated"));
        for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
                patch_file("boot.iso", "lie.iso", lies[i].at, lies[i].bytes, lies[i].len);
                inspect_file("lie.iso", IMAGE_ISO9660, &info, 0);
                if (!refused_with(&info, lies[i].code))
                        fail_msg("lie %zu: %zu refusals, first %s", i, info.n_refusals,
                                 info.refusals[0].code);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_overlay),           cmocka_unit_test(test_overlay_grows),
            cmocka_unit_test(test_overlay_arguments), cmocka_unit_test(test_iso),
            cmocka_unit_test(test_iso_arguments),     cmocka_unit_test(test_iso_inspect),
        };

        return cmocka_run_group_tests_name("formats-write", tests, work_begin, work_end);
}
