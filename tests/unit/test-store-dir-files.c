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
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/store/files.h"
#include "imaged/store/record-cache.h"

/*
 * The operations on a real folder: modes, links, holes, short and long files, and which error is which. pwrite() and
 * pread() are wrapped by the linker, so that they do a part only, or fail.
 */
static char folder[64];
static struct fs *fs;
static struct err err;
static const struct fs_owner root = {.mode = 0600};

static unsigned parts; /* so many calls do one byte only */
static int fails;      /* the next call fails with it */
static unsigned calls;

static size_t part(size_t n)
{
        calls++;
        if (parts == 0)
                return n;
        parts--;
        return 1;
}

static bool failed(void)
{
        if (!fails)
                return false;
        errno = fails;
        fails = 0;
        return true;
}

ssize_t __real_pwrite64(int fd, const void *buf, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t at)
{
        return failed() ? -1 : __real_pwrite64(fd, buf, part(n), at);
}

ssize_t __real_pread64(int fd, void *buf, size_t n, off_t at);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t at);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t at)
{
        return failed() ? -1 : __real_pread64(fd, buf, part(n), at);
}

static int begin(void **state)
{
        strcpy(folder, "/tmp/test-store-dir-files-XXXXXX");
        assert_non_null(mkdtemp(folder));
        parts = calls = 0;
        fails = 0;
        return fs_dir_new(folder, &fs, &err) < 0 || fs->ops->mkdir(fs, "tmp", 0700, &err) < 0;
}

static int end(void **state)
{
        char command[96];

        fs->ops->close(fs);
        snprintf(command, sizeof(command), "rm -rf %s", folder);
        return system(command);
}

static struct fs_attr look(const char *path)
{
        struct fs_attr a = {};

        assert_int_equal(fs->ops->stat(fs, path, &a, &err), 0);
        return a;
}

static int put(const char *path, const char *text)
{
        return fs->ops->put(fs, path, text, strlen(text), &root, false, &err);
}

static void names_have_modes_and_errors(void **state)
{
        const struct fs_owner other = {.uid = 12, .gid = 13, .mode = 0640};
        mode_t before = umask(0077);
        struct fs_attr a;

        assert_int_equal(fs->ops->mkdir(fs, "d", 0755, &err), 0);
        umask(before);
        assert_int_equal(look("d").mode, 0755);
        assert_false(look("d").plain);
        assert_int_equal(fs->ops->mkdir(fs, "d", 0755, &err), -EEXIST);
        assert_int_equal(put("d/f", "x"), 0);
        assert_int_equal(fs->ops->rmdir(fs, "d", &err), -ENOTEMPTY);
        assert_int_equal(fs->ops->mkdir(fs, "e", 0755, &err), 0);
        assert_int_equal(fs->ops->rename(fs, "e", "d", &err), -EEXIST);
        assert_int_equal(fs->ops->link(fs, "d/f", "g", &err), 0);
        assert_int_equal(look("g").nlink, 2);
        assert_int_equal(fs->ops->link(fs, "d/f", "g", &err), -EEXIST);
        assert_non_null(strstr(err.text, "g: cannot link"));
        assert_int_equal(fs->ops->remove(fs, "g", &err), 0);
        assert_int_equal(fs->ops->remove(fs, "g", &err), -ENOENT);
        assert_int_equal(fs->ops->rename(fs, "g", "h", &err), -ENOENT);
        assert_int_equal(fs->ops->stat(fs, "g", &a, &err), -ENOENT);
        assert_int_equal(fs_dir_symlink(fs, "nowhere", "l", &err), 0);
        assert_false(look("l").plain); /* itself, not what it leads to */
        assert_int_equal(fs_dir_symlink(fs, "d", "l", &err), 0);
        assert_int_equal(fs_dir_symlink(fs, "d", "none/l", &err), -ENOENT);
        assert_int_equal(rmdir(fs_dir_path(fs)), -1);
        assert_int_equal(fs->ops->rmdir(fs, "tmp", &err), 0); /* nothing is left there */
        assert_int_equal(fs->ops->put(fs, "o", "x", 1, &other, false, &err), geteuid() ? -EACCES : 0);
        if (geteuid() == 0)
                assert_true(look("o").uid == 12 && look("o").gid == 13 && look("o").mode == 0640);
}

static int on_text(void *arg, size_t i, int r, const char *text, size_t len)
{
        int *got = arg;

        got[i] = r < 0 ? r : (int)len;
        if (r == 0)
                assert_int_equal(strlen(text), len);
        return 0;
}

static void small_files_are_read_up_to_a_limit(void **state)
{
        static const char *const names[] = {"a", "none", "l", "b", "empty"};
        int got[5] = {};

        assert_int_equal(put("tmp/a", "1234"), 0);
        assert_int_equal(put("tmp/b", "12345"), 0);
        assert_int_equal(put("tmp/empty", ""), 0);
        assert_int_equal(fs_dir_symlink(fs, "a", "tmp/l", &err), 0);
        assert_int_equal(fs->ops->read(fs, "tmp", names, 5, 4, on_text, got, &err), 0);
        assert_true(got[0] == 4 && got[1] == -ENOENT && got[2] == -ELOOP && got[3] == -EFBIG && got[4] == 0);
        assert_int_equal(fs->ops->read(fs, "none", names, 2, 4, on_text, got, &err), 0);
        assert_true(got[0] == -ENOENT && got[1] == -ENOENT);
        assert_int_equal(fs->ops->read(fs, "tmp/a", names, 2, 4, on_text, got, &err), -ENOTDIR);
}

static int third(void *arg, const char *name)
{
        return ++*(unsigned *)arg == 3 ? 77 : 0;
}

static int every(void *arg, const char *name)
{
        ++*(unsigned *)arg;
        assert_false(streq(name, ".") || streq(name, ".."));
        return 0;
}

static void a_list_has_every_name(void **state)
{
        unsigned n = 0;

        for (unsigned i = 0; i < 129; i++) {
                char path[32];

                snprintf(path, sizeof(path), "tmp/%u", i);
                assert_int_equal(put(path, ""), 0);
        }
        assert_int_equal(fs->ops->list(fs, "tmp", every, &n, &err), 0);
        assert_int_equal(n, 129);
        n = 0;
        assert_int_equal(fs->ops->list(fs, "tmp", third, &n, &err), 77);
        assert_int_equal(n, 3);
        assert_int_equal(fs->ops->list(fs, "none", every, &n, &err), -ENOENT);
        assert_int_equal(fs->ops->list(fs, "tmp/1", every, &n, &err), -ENOTDIR);
}

static void zeros_take_no_room(void **state)
{
        static uint8_t data[3 * 4096 + 100], back[sizeof(data)];
        char path[100];
        struct stat st;
        int fd;

        data[4096] = data[2 * 4096 - 1] = 'x';
        assert_int_equal(fs->ops->put(fs, "f", data, sizeof(data), &root, false, &err), 0);
        snprintf(path, sizeof(path), "%s/f", folder);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, sizeof(data));
        assert_in_range(st.st_blocks, 1, 15);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(read(fd, back, sizeof(back)), sizeof(back));
        assert_memory_equal(back, data, sizeof(data));
        close(fd);
}

static void content_is_read_and_written_whole(void **state)
{
        static char data[8192] __attribute__((aligned(4096)));
        const struct fs_owner owner = {.uid = geteuid(), .gid = getegid(), .mode = 0444};
        struct fs_file *f = NULL;
        uint64_t size = 0;
        struct fs_attr a;
        char got[16] = "";

        assert_int_equal(fs->file->create(fs, "f", 8192, &f, &err), 0);
        assert_true(look("f").size == 8192 && look("f").mode == 0600);
        parts = 3;
        assert_int_equal(fs->file->write(f, "0123456789", 10, 5, &err), 0);
        assert_int_equal(calls, 4);
        parts = 3;
        assert_int_equal(fs->file->read(f, got, 10, 5, &err), 0);
        assert_string_equal(got, "0123456789");
        fails = EINTR;
        assert_int_equal(fs->file->read(f, got, 10, 5, &err), 0);
        fails = EINTR;
        assert_int_equal(fs->file->write(f, "01", 2, 5, &err), 0);
        fails = EDQUOT;
        assert_int_equal(fs->file->write(f, "01", 2, 5, &err), -ENOSPC);
        fails = EIO;
        assert_int_equal(fs->file->write(f, "01", 2, 5, &err), -EIO);
        fails = EIO;
        assert_int_equal(fs->file->read(f, got, 10, 5, &err), -EIO);
        memset(data, 'y', sizeof(data));
        assert_int_equal(fs->file->write(f, data, 8192, 0, &err), 0);
        assert_int_equal(fs->file->read(f, got, 2, 8190, &err), 0);
        assert_string_equal(got, "yy23456789");
        assert_int_equal(fs->file->read(f, got, 2, 8191, &err), -EIO);
        assert_non_null(strstr(err.text, "ends early"));
        assert_int_equal(fs->file->resize(f, 4096, &err), 0);
        assert_int_equal(fs->file->attr(f, &a, &err), 0);
        assert_true(a.size == 4096 && a.plain);
        assert_int_equal(fs->file->hole(f, 0), 0);
        assert_int_equal(fs->file->resize(f, 65536, &err), 0);
        assert_int_equal(fs->file->hole(f, 4096), 65536 - 4096);
        assert_int_equal(fs->file->hole(f, 8192), 65536 - 8192);
        assert_int_equal(fs->file->seal(f, &owner, &err), 0);
        assert_int_equal(look("f").mode, 0444);
        fs->file->close(f);
        assert_int_equal(fs->file->create(fs, "f", 1, &f, &err), -EEXIST);
        assert_int_equal(look("f").size, 65536);
        assert_int_equal(fs->file->open(fs, "f", false, &f, &size, &err), 0);
        assert_int_equal(size, 65536);
        assert_int_equal(fs->file->write(f, "x", 1, 0, &err), -EBADF);
        fs->file->close(f);
        assert_int_equal(fs->file->open(fs, "none", true, &f, &size, &err), -ENOENT);
        assert_int_equal(fs_dir_symlink(fs, "f", "l", &err), 0);
        assert_int_equal(fs->file->open(fs, "l", false, &f, &size, &err), -ELOOP);
        fs->file->close(NULL);
}

static void a_poke_is_one_write_from_the_start(void **state)
{
        assert_int_equal(fs->file->poke(fs, "p", "12345", 5, &err), 0);
        assert_int_equal(look("p").mode, 0600);
        assert_int_equal(fs->file->poke(fs, "p", "9", 1, &err), 0);
        assert_int_equal(look("p").size, 5);
        parts = 1;
        assert_int_equal(fs->file->poke(fs, "p", "12", 2, &err), -EIO);
        fails = ENOSPC;
        assert_int_equal(fs->file->poke(fs, "p", "12", 2, &err), -ENOSPC);
        assert_int_equal(fs->file->poke(fs, "none/p", "12", 2, &err), -ENOENT);
}

static void room_is_what_users_may_use(void **state)
{
        uint64_t total = 0, left = 0;
        struct statvfs v;
        struct fs *other = NULL;

        assert_int_equal(fs->ops->space(fs, &total, &left, &err), 0);
        assert_int_equal(statvfs(folder, &v), 0);
        assert_int_equal(total, (uint64_t)v.f_blocks * v.f_frsize);
        assert_in_range(left, 1, total);
        assert_int_equal(fs_dir_new("tmp", &other, &err), -EINVAL);
        assert_int_equal(put("f", ""), 0);
        snprintf(err.text, sizeof(err.text), "%s/f", folder);
        assert_int_equal(fs_dir_new(strcpy((char[80]){}, err.text), &other, &err), -ENOTDIR);
}

/* The cache is filled to its bound, and what is larger than a quarter of it is not kept. */
static void a_cache_keeps_what_fits(void **state)
{
        struct record_cache *c = record_cache_new(4000);
        char text[1001];
        char *got;

        memset(text, 'x', 1000);
        text[1000] = '\0';
        record_cache_put(c, RECORD_HOST, "1", 1, text);
        assert_null(record_cache_get(c, RECORD_HOST, "1", 1));
        text[999] = '\0';
        record_cache_put(c, RECORD_HOST, "1", 1, text);
        got = record_cache_get(c, RECORD_HOST, "1", 1);
        assert_string_equal(got, text);
        free(got);
        record_cache_put(c, RECORD_HOST, "1", 1, "another of that version");
        got = record_cache_get(c, RECORD_HOST, "1", 1);
        assert_string_equal(got, text);
        free(got);
        for (unsigned v = 2; v < 100; v++) /* a new version takes the old one's room */
                record_cache_put(c, RECORD_HOST, "1", v, text);
        record_cache_put(c, RECORD_HOST, "2", 1, text);
        got = record_cache_get(c, RECORD_HOST, "1", 99);
        assert_non_null(got);
        free(got);
        assert_null(record_cache_get(c, RECORD_HOST, "1", 98));
        assert_null(record_cache_get(c, RECORD_IMAGE, "1", 99));
        record_cache_free(c);
        assert_null(record_cache_free(NULL));
        record_cache_put(NULL, RECORD_HOST, "1", 1, "x");
        assert_null(record_cache_get(NULL, RECORD_HOST, "1", 1));
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(names_have_modes_and_errors),
            test(small_files_are_read_up_to_a_limit),
            test(a_list_has_every_name),
            test(zeros_take_no_room),
            test(content_is_read_and_written_whole),
            test(a_poke_is_one_write_from_the_start),
            test(room_is_what_users_may_use),
            cmocka_unit_test(a_cache_keeps_what_fits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
