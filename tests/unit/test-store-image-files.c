/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "tests/store/probe-fs.h"

/*
 * Images, records, and volumes and disks that are read, as files: which step comes when, what a failure leaves behind
 * and what is made of it. Faults come from tests/store/probe-fs.c.
 */
static struct err err;

static struct fs_attr look(const char *path)
{
        struct fs_attr a = {};
        int r = probe.fs->ops->stat(probe.fs, path, &a, NULL);

        assert_true(r == 0 || r == -ENOENT);
        return a;
}

static struct volume *make(const char *image)
{
        struct volume *v = NULL;

        assert_int_equal(volume_create(probe.store, image, 4096, &v, &err), 0);
        assert_int_equal(volume_write(v, "abc", 3, 0, &err), 0);
        return v;
}

static void seal(const char *image)
{
        struct volume *v = make(image);

        assert_int_equal(volume_seal(v, &err), 0);
        volume_close(v);
}

static void an_image_is_sealed_under_its_name(void **state)
{
        struct volume *v = make("i");
        struct attach a;
        char want[128];

        probe_clear();
        assert_int_equal(volume_resize(v, 8192, &err), 0);
        assert_int_equal(volume_seal(v, &err), 0);
        assert_true(strstr(probe.log, "seal") < strstr(probe.log, "link images/i.raw"));
        assert_true(strstr(probe.log, "link images/i.raw") < strstr(probe.log, "remove images/i."));
        assert_true(strstr(probe.log, "remove images/i.") < strstr(probe.log, "sync images\n"));
        assert_true(look("images/i.raw").mode == 0444 && look("images/i.raw").size == 8192);
        assert_int_equal(look("images/i.raw").nlink, 1);
        volume_close(v);
        assert_int_equal(probe_names("images"), 1);
        assert_int_equal(volume_create(probe.store, "i", 4096, &v, &err), -EEXIST);
        assert_int_equal(volume_attach(probe.store, "i", &a, &err), 0);
        snprintf(want, sizeof(want), "%s/images/i.raw", probe.folder);
        assert_string_equal(a.path, want);
        assert_true(a.kind == ATTACH_FILE && a.read_only && !a.qcow2 && !a.has_backing);
}

static void a_seal_that_failed_is_told_and_can_be_asked_again(void **state)
{
        struct volume *v = make("i");

        probe_fail("seal", -ENOSPC);
        assert_int_equal(volume_seal(v, &err), -ENOSPC);
        assert_false(probe_logged("link"));
        probe_fail("link", -EACCES);
        assert_int_equal(volume_seal(v, &err), -EACCES);
        probe_fail("link", -ETIMEDOUT); /* and it did not happen: the part has one link */
        assert_int_equal(volume_seal(v, &err), -ETIMEDOUT);
        probe_fail("sync", -EIO);
        assert_int_equal(volume_seal(v, &err), -EIO);
        probe_clear();
        assert_int_equal(volume_seal(v, &err), 0);
        assert_string_equal(probe.log, "sync images\n");
        volume_close(v);
        v = make("j");
        probe_fail("link", -EEXIST); /* sent twice */
        probe.done = true;
        assert_int_equal(volume_seal(v, &err), 0);
        volume_close(v);
        v = make("k");
        assert_int_equal(probe_shell("echo other >images/k.raw"), 0);
        assert_int_equal(volume_seal(v, &err), -EEXIST);
        volume_close(v);
        assert_int_equal(look("images/k.raw").size, 6);
        v = make("l");
        assert_int_equal(probe_shell("rm images/l.*"), 0);
        assert_int_equal(volume_seal(v, &err), -ESTALE);
        volume_close(v);
}

static void what_is_not_sealed_goes_unless_it_is_left(void **state)
{
        struct volume *v = make("i"), *w = NULL;
        char buf[4] = "";

        volume_close(v);
        assert_int_equal(probe_names("images"), 0);
        volume_leave(make("i"));
        volume_leave(make("i2"));
        assert_int_equal(probe_names("images"), 2);
        probe_clear();
        assert_int_equal(volume_resume(probe.store, "i", false, &v, &err), 0);
        assert_false(probe_logged("rename"));
        assert_int_equal(volume_read(v, buf, 3, 0, &err), 0);
        assert_string_equal(buf, "abc");
        assert_int_equal(volume_write(v, "x", 1, 0, &err), -EROFS);
        volume_close(v);
        assert_int_equal(probe_names("images"), 2);
        assert_int_equal(volume_resume(probe.store, "i", true, &v, &err), 0);
        assert_int_equal(volume_resume(probe.store, "i", true, &w, &err), 0);
        assert_int_equal(volume_seal(v, &err), -ESTALE); /* it is another's now */
        volume_close(v);
        assert_int_equal(volume_size(w), 4096);
        assert_int_equal(volume_seal(w, &err), 0);
        volume_close(w);
        assert_int_equal(volume_resume(probe.store, "i", true, &v, &err), -ENOENT);
        probe_fail("list", -EIO);
        assert_int_equal(volume_resume(probe.store, "i2", true, &v, &err), -EIO);
        probe_fail("rename", -EACCES);
        assert_int_equal(volume_resume(probe.store, "i2", true, &v, &err), -EACCES);
        probe_fail("open-write", -EACCES);
        assert_int_equal(volume_resume(probe.store, "i2", true, &v, &err), -EACCES);
        assert_int_equal(probe_names("images"), 2);
        v = make("i2"); /* a new one replaces it */
        assert_int_equal(probe_names("images"), 2);
        volume_close(v);
}

static void a_part_has_16_digits_and_its_images_name(void **state)
{
        struct volume *v = NULL;

        assert_int_equal(
            probe_shell("cd images && touch i.raw i.0123.part i.0123456789abcdef.gone "
                        "ij.0123456789abcdef.part i.0123456789abcdefx.part i_0123456789abcdef.part "
                        "i.0123456789abcdef.parts"),
            0);
        assert_int_equal(volume_resume(probe.store, "i", true, &v, &err), -ENOENT);
        assert_int_equal(probe_shell("touch images/i.fedcba9876543210.part"), 0);
        assert_int_equal(volume_resume(probe.store, "i", false, &v, &err), 0);
        volume_close(v);
}

static void a_begin_that_cannot_be_is_told(void **state)
{
        static const char *const ops[] = {"stat", "list", "create"};
        struct volume *v = NULL;
        char buf[4];

        for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
                probe_fail(ops[i], -EIO);
                assert_int_equal(volume_create(probe.store, "i", 4096, &v, &err), -EIO);
                assert_int_equal(probe_names("images"), 0);
        }
        volume_leave(make("i"));
        probe_fail("remove", -EACCES);
        assert_int_equal(volume_create(probe.store, "i", 4096, &v, &err), -EACCES);
        probe_fail("remove", -ENOENT); /* another was quicker */
        probe.done = true;
        assert_int_equal(volume_create(probe.store, "i", 4096, &v, &err), 0);
        probe_fail("file-write", -ENOSPC);
        assert_int_equal(volume_write(v, "x", 1, 0, &err), -ENOSPC);
        assert_non_null(strstr(err.text, "image i"));
        probe_fail("resize", -ENOSPC);
        assert_int_equal(volume_resize(v, 1, &err), -ENOSPC);
        probe_fail("file-read", -EIO);
        assert_int_equal(volume_read(v, buf, 1, 0, &err), -EIO);
        volume_close(v);
        assert_int_equal(volume_open(probe.store, "i", &v, &err), -ENOENT);
        probe_fail("open", -EIO);
        assert_int_equal(volume_open(probe.store, "i", &v, &err), -EIO);
}

static void user_comes(void)
{
        assert_int_equal(probe_shell("ln images/i.raw tmp/user 2>/dev/null || ln images/i.*.gone tmp/user"),
                         0);
}

static void an_image_is_removed_by_way_of_another_name(void **state)
{
        struct volume *v = NULL;

        assert_int_equal(volume_remove(probe.store, "i", &err), -ENOENT);
        volume_leave(make("i"));
        assert_int_equal(volume_remove(probe.store, "i", &err), 0); /* a part alone */
        assert_int_equal(probe_names("images"), 0);
        seal("i");
        probe_fail("rename", -EACCES);
        assert_int_equal(volume_remove(probe.store, "i", &err), -EACCES);
        probe_fail("rename", -ETIMEDOUT);
        assert_int_equal(volume_remove(probe.store, "i", &err), -ETIMEDOUT);
        assert_int_equal(look("images/i.raw").nlink, 1);
        probe_fail("rename", -ETIMEDOUT);
        probe.done = true;
        assert_int_equal(volume_remove(probe.store, "i", &err), 0);
        assert_int_equal(probe_names("images"), 0);
        seal("i");
        probe_fail("remove", -EACCES);
        assert_int_equal(volume_remove(probe.store, "i", &err), -EACCES);
        assert_int_equal(store_prepare(probe.store, &err), 0); /* finishes it */
        assert_int_equal(probe_names("images"), 0);
        seal("i");
        probe_fail("remove", -ENOENT);
        probe.done = true;
        assert_int_equal(volume_remove(probe.store, "i", &err), 0);
        assert_true(probe_logged("sync images"));
        seal("i");
        probe_fail("sync", -EIO);
        assert_int_equal(volume_remove(probe.store, "i", &err), -EIO);
        seal("i");
        probe_fail("stat", -EIO);
        assert_int_equal(volume_remove(probe.store, "i", &err), -EIO);
        probe_fail("rename", 0);
        probe.before = user_comes;
        assert_int_equal(volume_remove(probe.store, "i", &err), -EBUSY);
        assert_int_equal(volume_open(probe.store, "i", &v, &err), 0);
        volume_close(v);
        assert_int_equal(probe_shell("mv images/i.raw images/i.0123456789abcdef.gone"), 0);
        probe_fail("link", -EIO);
        assert_int_equal(store_prepare(probe.store, &err), -EIO); /* and it is not lost */
        assert_int_equal(look("images/i.0123456789abcdef.gone").nlink, 2);
        assert_int_equal(store_prepare(probe.store, &err), 0);
        assert_int_equal(look("images/i.raw").nlink, 2);
        assert_int_equal(probe_names("images"), 1);
}

static void a_change_of_any_kind_ends_a_foreign_read(void **state)
{
        static const struct fs_attr changes[] = {
            {.size = 1}, {.ctime_s = 1}, {.ctime_ns = 1}, {.mtime_s = 1}};
        struct foreign *f = NULL;
        char buf[4];

        assert_int_equal(probe_shell("printf 12345 >import/a"), 0);
        assert_int_equal(foreign_open(probe.store, "a", &f, &err), 0);
        assert_int_equal(foreign_size(f), 5);
        assert_int_equal(foreign_unchanged(f, &err), 0);
        for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
                probe_clear();
                probe.change = changes[i];
                assert_int_equal(foreign_unchanged(f, &err), -ESTALE);
        }
        probe_fail("attr", -ENOENT);
        assert_int_equal(foreign_unchanged(f, &err), -ESTALE);
        assert_non_null(strstr(err.text, "removed"));
        probe_fail("attr", -EIO);
        assert_int_equal(foreign_unchanged(f, &err), -EIO);
        probe_fail("file-read", -EIO);
        assert_int_equal(foreign_read(f, buf, 1, 0, &err), -EIO);
        foreign_close(f);
}

static void a_disk_is_read_under_the_name_it_has(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .image = "golden", .size = 1 << 20};
        const struct flock lock = {.l_type = F_RDLCK, .l_start = 101, .l_len = 1};
        _cleanup_(closep) int fd = -1;
        const char *backing = NULL;
        struct disk_reader *d = NULL;
        struct lease one = {};
        char path[128], buf[4];

        seal("golden");
        assert_int_equal(lease_create(probe.store, "vm", &disk, 1, &err), 0);
        assert_int_equal(look("images/golden.raw").nlink, 2);
        assert_int_equal(disk_reader_open(probe.store, "vm", &(struct lease){1, 1}, &disk, &d, &err),
                         -ESTALE);
        assert_int_equal(disk_reader_open(probe.store, "vm", &one, &disk, &d, &err), 0);
        assert_true(disk_reader_qcow2(d, &backing));
        assert_string_equal(backing, "../../../images/golden.raw");
        assert_int_equal(disk_reader_read(d, buf, 4, 0, &err), 0);
        assert_memory_equal(buf, "QFI\xfb", 4);
        assert_int_equal(lease_claim(probe.store, "vm", &one, 1, false, &one, &err), 0);
        assert_int_equal(disk_reader_read(d, buf, 4, 0, &err), 0); /* the file stays the same */
        probe_fail("file-read", -EIO);
        assert_int_equal(disk_reader_read(d, buf, 4, 0, &err), -EIO);
        d = disk_reader_close(d);
        probe_fail("open", -EIO);
        assert_int_equal(disk_reader_open(probe.store, "vm", &one, &disk, &d, &err), -EIO);
        snprintf(path, sizeof(path), "%s/instances/vm/vm.e1.h1/disk0.qcow2", probe.folder);
        fd = open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
        assert_int_equal(disk_reader_open(probe.store, "vm", &one, &disk, &d, &err), -EBUSY);
}

static void an_image_counts_those_that_it_can(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .image = "golden", .size = 4096};

        seal("golden");
        probe_fail("link", -EMLINK); /* beyond the file system's limit nobody counts */
        assert_int_equal(lease_create(probe.store, "vm", &disk, 1, &err), 0);
        probe_fail("link", -EIO);
        assert_int_equal(lease_create(probe.store, "vn", &disk, 1, &err), -EIO);
        probe_fail("link", -ENOENT); /* it was removed since it was measured */
        assert_int_equal(lease_create(probe.store, "vn", &disk, 1, &err), -ENOENT);
        assert_non_null(strstr(err.text, "no such image"));
        probe_fail("stat", -EIO);
        assert_int_equal(lease_create(probe.store, "vn", &disk, 1, &err), -EIO);
}

static int put(uint64_t expected, const char *text)
{
        return record_put(probe.store, RECORD_HOST, "ab", expected, text, NULL, &err);
}

static void a_record_that_cannot_be_written_leaves_nothing(void **state)
{
        static const struct {
                const char *op;
                unsigned skip;
                int answer;
        } at[] = {{"list", 0, -EIO},
                  {"put-durable", 0, -EIO},
                  {"list", 1, -EIO},
                  {"link", 0, -EIO},
                  {"link", 0, -EACCES}};
        uint64_t version;
        char *text;

        for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
                probe_fail(at[i].op, at[i].answer);
                probe.skip = at[i].skip;
                assert_int_equal(put(0, "one"), at[i].answer);
                assert_int_equal(probe.times, 0);
                assert_int_equal(probe_names("tmp"), 0);
                assert_int_equal(record_get(probe.store, RECORD_HOST, "ab", &text, &version, &err), -ENOENT);
        }
        probe_fail("list", -EIO); /* after the link: who has won cannot be told */
        probe.skip = 2;
        assert_int_equal(put(0, "one"), -ETIMEDOUT);
        assert_int_equal(put(0, "one"), -ESTALE);
        assert_int_equal(put(2, "two"), -ESTALE);
        assert_int_equal(put(1, "two"), 0);
        probe_fail("sync", -EIO);
        assert_int_equal(put(2, "three"), -EIO);
        assert_int_equal(put(3, NULL), 0);
        assert_int_equal(put(4, NULL), -ENOENT);
        assert_int_equal(put(0, NULL), -ENOENT);
        assert_int_equal(put(3, "x"), -ESTALE);
        assert_int_equal(put(0, "again"), 0);
        assert_int_equal(record_get(probe.store, RECORD_HOST, "ab", &text, &version, &err), 0);
        assert_int_equal(version, 5);
        assert_string_equal(text, "again");
        free(text);
        assert_int_equal(probe_names("records/host/ab"), 2); /* the highest, and the one before */
        assert_int_equal(probe_names("tmp"), 0);
        assert_int_equal(look("records/host/ab").mode, 0700);
        assert_int_equal(look("records/host/ab/ab.v5").mode, 0600);
}

static void a_records_name_and_head_have_one_spelling(void **state)
{
        static const char *const names[] = {"a",     "a.v0", "a.v01", "a.v+1",
                                            "a.v1x", "a.w1", "a.v",   "a.v99999999999999999999"};
        char id[STORE_ID_MAX + 1], longest[STORE_ID_MAX + 8];
        uint64_t n = 0;
        bool deleted = true;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                assert_false(files_record_name(names[i], id, &n));
        assert_true(files_record_name("a.v12", id, &n));
        assert_string_equal(id, "a");
        assert_int_equal(n, 12);
        memset(longest, 'a', sizeof(longest));
        strcpy(longest + STORE_ID_MAX, ".v1");
        assert_true(files_record_name(longest, id, &n));
        longest[STORE_ID_MAX] = 'a';
        strcpy(longest + STORE_ID_MAX + 1, ".v1");
        assert_false(files_record_name(longest, id, &n));
        assert_string_equal(files_record_text("wherry-record live x\ntext", &deleted), "text");
        assert_false(deleted);
        assert_string_equal(files_record_text("wherry-record deleted x\n", &deleted), "");
        assert_true(deleted);
        assert_null(files_record_text("wherry-record live x", &deleted));
        assert_null(files_record_text("wherry-record alive x\n", &deleted));
        assert_int_equal(put(0, "one"), 0);
        assert_int_equal(probe_shell("echo wherry-record live 0123456789abcde >records/host/ab/ab.v2"), 0);
        assert_int_equal(put(2, "x"), -EIO);
        assert_int_equal(probe_shell("echo wherry-record live 0123456789abcdef >records/host/ab/ab.v2"), 0);
        assert_int_equal(put(2, "x"), 0);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, probe_begin, probe_end)
        const struct CMUnitTest tests[] = {
            test(an_image_is_sealed_under_its_name),
            test(a_seal_that_failed_is_told_and_can_be_asked_again),
            test(what_is_not_sealed_goes_unless_it_is_left),
            test(a_part_has_16_digits_and_its_images_name),
            test(a_begin_that_cannot_be_is_told),
            test(an_image_is_removed_by_way_of_another_name),
            test(a_change_of_any_kind_ends_a_foreign_read),
            test(a_disk_is_read_under_the_name_it_has),
            test(an_image_counts_those_that_it_can),
            test(a_record_that_cannot_be_written_leaves_nothing),
            test(a_records_name_and_head_have_one_spelling),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
