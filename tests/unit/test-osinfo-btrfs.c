/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"
#include "imaged/osinfo/osinfo.h"
#include "test-osinfo-util.h"
#include "tests/fuzz/packed.h"

/*
 * The reader of btrfs against what mkfs.btrfs makes of a folder, and against small images that a kernel has
 * written, which are the fuzzer's corpus, too (tests/fuzz/make-btrfs).
 */

/* argv: the corpus, and the helper (empty: not built). */
static const char *corpus, *helper;

static struct found look_at(const char *file)
{
        int fd = open(file, O_RDONLY | O_CLOEXEC);
        struct source src;
        struct found f;

        assert_int_equal(source_from_fd(fd, &src, NULL), 0);
        f = btrfs_found(&src);
        close(fd);
        return f;
}

/* A root with an os-release of so many lines of comment, and a shell of 64-bit ARM. */
static void root_make(unsigned comments)
{
        sh("rm -rf root && mkdir -p root/etc root/usr/lib root/usr/bin && ln -s usr/bin root/bin && "
           "ln -s ../usr/lib/os-release root/etc/os-release && ln -s bash root/usr/bin/sh && "
           "{ printf '\\177ELF\\2\\1\\1\\0\\0\\0\\0\\0\\0\\0\\0\\0\\3\\0\\267\\0\\1\\0\\0\\0'; "
           "yes | head -c 60000; } >root/usr/bin/bash && "
           "{ yes '# one more line' | head -n %u; echo ID=ourlinux; echo VERSION_ID=7.1; } "
           ">root/usr/lib/os-release",
           comments);
}

static void mkfs(const char *options)
{
        sh("rm -f disk && truncate -s 260M disk && mkfs.btrfs -q %s --rootdir root disk >mkfs.log 2>&1 || "
           "{ cat mkfs.log; false; }",
           options);
}

static void every_layout_is_read(void **state)
{
        static const char *const all[] = {"-n 4k",
                                          "-n 16k",
                                          "-n 64k",
                                          "-M",
                                          "-M -m dup -d dup",
                                          "-m single -d single",
                                          "-m dup -d dup",
                                          "--csum sha256",
                                          "-O ^no-holes",
                                          "-O ^skinny-metadata,^extref",
                                          "-U 01234567-89ab-cdef-0123-456789abcdef"};

        /* inline; an extent; one that nearly fills what is read of it */
        for (unsigned comments = 0; comments <= 900; comments += 450) {
                root_make(comments);
                for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                        struct found f;

                        mkfs(all[i]);
                        f = look_at("disk");
                        found_is(all[i], &f, "ourlinux", "7.1", "aarch64");
                }
        }
}

static void a_large_directory_is_searched(void **state)
{
        static const char *const all[] = {"-n 4k", "-n 64k"};

        root_make(0);
        sh("cd root/etc && seq -f 'a-name-of-a-file-%%g' 6000 | xargs touch");
        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                struct found f;

                mkfs(all[i]);
                f = look_at("disk");
                found_is(all[i], &f, "ourlinux", "7.1", "aarch64");
        }
}

static void a_lost_copy_of_the_metadata_is_no_loss(void **state)
{
        struct found f;

        root_make(0);
        mkfs("-m dup");
        sh("btrfs inspect-internal dump-tree -t chunk disk | "
           "awk '$1 == \"length\" { n = $2; dup = /DUP/ } $1 == \"stripe\" && $2 == 0 && dup { print $6, n "
           "}' "
           ">lost && test -s lost && while read -r at n; do fallocate -p -o $at -l $n disk; done <lost");
        f = look_at("disk");
        found_is("the second copy", &f, "ourlinux", "7.1", "aarch64");
        sh("btrfs inspect-internal dump-super disk >/dev/null && "
           "printf '\\300' | dd of=disk bs=1 seek=65725 conv=notrunc status=none"); /* incompatible: 14, 15
                                                                                     */
        f = look_at("disk");
        found_is("features not known", &f, "", "", NULL);
}

static void what_kernels_have_written_is_read(void **state)
{
        static const char *const all[][4] = {
            {"zstd", "fedora", "42", "aarch64"},             /* in a subvolume "root", zstd */
            {"zlib", "ubuntu", "24.04", "aarch64"},          /* in "@", zlib, nodes of 16 KiB */
            {"lzo", "", "", NULL},                           /* which is not unpacked */
            {"default", "opensuse-leap", "15.6", "aarch64"}, /* in the default subvolume */
            {"snapper", "opensuse-leap", "15.6", "aarch64"}, /* in the newest snapshot */
            {"holes", "debian", "13", "aarch64"},            /* "@rootfs", /usr apart, holes, preallocated */
            {"raid1", "ourlinux", "7.2", "aarch64"},         /* one device of two */
        };

        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                char *path = str_printf("%s/%s", corpus, all[i][0]);
                struct bytes b = file_load(path);
                struct packed packed;
                struct source src = packed_source(&packed, b.data, b.len);
                struct found f = btrfs_found(&src);

                found_is(path, &f, all[i][1], all[i][2], all[i][3]);
                assert_true(packed.read_bytes < 200000);
                free(b.data);
                free(path);
        }
}

/* Some bytes are others. It ends, and costs no more than it may. */
static void damage(const char *name, uint32_t seeds)
{
        char *path = str_printf("%s/%s", corpus, name);
        struct bytes good = file_load(path), b = {malloc(good.len), good.len};
        unsigned read = 0;

        for (uint32_t i = 1; i <= seeds; i++) {
                uint32_t seed = i * 2654435761u;
                struct packed packed;
                struct source src;

                memcpy(b.data, good.data, good.len);
                for (unsigned k = 0; k <= i % 12; k++)
                        b.data[4 + random_next(&seed) % (b.len - 4)] = (uint8_t)random_next(&seed);
                src = packed_source(&packed, b.data, b.len);
                read += btrfs_found(&src).release.id[0] != 0;
                assert_true(packed.read_bytes <= BTRFS_READ_MAX);
        }
        assert_true(read > 0 && read < seeds);
        free(good.data);
        free(b.data);
        free(path);
}

static void damaged_ones_end(void **state)
{
        static const char *const all[] = {"zstd", "zlib", "default", "snapper", "holes", "raid1"};

        for (size_t i = 0; i < ARRAY_SIZE(all); i++)
                damage(all[i], 1500);
}

static void a_disk_tells_its_system(void **state)
{
        struct osinfo o = {0};
        struct err err = {0};
        struct source src;
        int fd;

        root_make(0);
        sh("sed -i s/ourlinux/fedora/ root/usr/lib/os-release");
        mkfs("-n 16k");
        sh("rm -f gpt && truncate -s 280M gpt && sfdisk -q gpt <<'END'\n"
           "label: gpt\n"
           "start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n"
           "start=4096, size=532480\nEND\n"
           "dd if=disk of=gpt bs=1M seek=2 conv=notrunc,sparse status=none");
        fd = open("gpt", O_RDONLY | O_CLOEXEC);
        assert_int_equal(source_from_fd(fd, &src, NULL), 0);
        if (osinfo_find_by(helper, 60000, &src, false, &o, &err) < 0)
                fail_msg("%s", err_text(&err));
        close(fd);
        assert_string_equal(o.distro, "fedora");
        assert_string_equal(o.version, "7.1");
        assert_string_equal(o.architecture, "aarch64");
        assert_string_equal(o.from, "os-release");
        assert_true(o.bios);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest plain[] = {
            cmocka_unit_test(every_layout_is_read),
            cmocka_unit_test(a_large_directory_is_searched),
            cmocka_unit_test(a_lost_copy_of_the_metadata_is_no_loss),
            cmocka_unit_test(what_kernels_have_written_is_read),
            cmocka_unit_test(damaged_ones_end),
        };
        const struct CMUnitTest real[] = {
            cmocka_unit_test(a_disk_tells_its_system),
        };
        int failed;

        if (argc < 2)
                return 2;
        corpus = realpath(argv[1], NULL);
        helper = argc > 2 ? realpath(argv[2], NULL) : NULL;
        failed = cmocka_run_group_tests(plain, work_begin, work_end);
        if (helper)
                failed += cmocka_run_group_tests(real, work_begin, work_end);
        free((char *)corpus);
        free((char *)helper);
        return failed;
}
