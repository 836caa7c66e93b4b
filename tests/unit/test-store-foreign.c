/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "imaged/store/engine.h"

static void a_path_stays_below_its_folder(void **state)
{
        static const char *const good[] = {"a", "a.qcow2", "a/b/c.raw", "...", "a/..b", "with space", "-x"};
        static const char *const bad[] = {"",     "/a", "..",  ".",     "../a", "a/..",    "a/../b",
                                          "a//b", "a/", "./a", "a/./b", "a\nb", "a/b\x7f", "//"};
        char longest[382];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_int_equal(foreign_path_check(good[i], NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct err err = {0};

                assert_int_equal(foreign_path_check(bad[i], &err), -EINVAL);
                assert_true(err_text(&err)[0]);
        }
        memset(longest, 'a', sizeof(longest));
        longest[381] = '\0';
        assert_int_equal(foreign_path_check(longest, NULL), -EINVAL);
        longest[380] = '\0';
        assert_int_equal(foreign_path_check(longest, NULL), 0);
}

static void an_rbd_name_has_its_parts(void **state)
{
        static const struct {
                const char *name, *pool, *ns, *image, *snap;
        } good[] = {
            {"img", "", "", "img", ""},
            {"img@s", "", "", "img", "s"},
            {"p/img", "p", "", "img", ""},
            {"p/img@s.1", "p", "", "img", "s.1"},
            {"p/n/img@s", "p", "n", "img", "s"},
            {"p/volume-0b9f61ae-9d0b-4b0e-8a53-7d5f5c1f2c3d", "p", "",
             "volume-0b9f61ae-9d0b-4b0e-8a53-7d5f5c1f2c3d", ""},
            {"0b9f61ae-9d0b-4b0e-8a53-7d5f5c1f2c3d", "", "", "0b9f61ae-9d0b-4b0e-8a53-7d5f5c1f2c3d", ""}};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                struct foreign_rbd v;

                assert_int_equal(foreign_rbd_parse(good[i].name, &v, NULL), 0);
                assert_string_equal(v.pool, good[i].pool);
                assert_string_equal(v.ns, good[i].ns);
                assert_string_equal(v.image, good[i].image);
                assert_string_equal(v.snap, good[i].snap);
        }
}

static void an_rbd_name_of_ours_or_of_nothing_is_refused(void **state)
{
        static const struct {
                const char *name, *text;
        } bad[] = {{"", "empty"},
                   {"/img", "pool"},
                   {"p/", "image"},
                   {"p//img", "namespace"},
                   {"p/n/", "image"},
                   {"a/b/c/d", "write it as"},
                   {"img@", "snapshot"},
                   {"@s", "image"},
                   {"img@a@b", "write it as"},
                   {"img@a/b", "write it as"},
                   {"im\tg", "control character"},
                   {"golden.x.0123", "already"},
                   {"p/golden.x@sealed", "already"},
                   {"0b9f61ae-9d0b-4b0e-8a53-7d5f5c1f2c3d.e1.h2", "capture"},
                   {"p/n/0b9f61ae-9d0b-4b0e-8a53-7d5f5c1f2c3d.e0.h0@s", "capture"},
                   {"some-id.e12.h3", "capture"},
                   {"0b9f61ae-9d0b-4b0e-8a53-7d5f5c1f2c3d.seed", "capture"}};
        char longest[FOREIGN_RBD_MAX + 1];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct foreign_rbd v;
                struct err err = {0};

                assert_int_equal(foreign_rbd_parse(bad[i].name, &v, &err), -EINVAL);
                if (!strstr(err_text(&err), bad[i].text))
                        fail_msg("%s: no \"%s\" in: %s", bad[i].name, bad[i].text, err_text(&err));
        }
        memset(longest, 'a', sizeof(longest));
        longest[FOREIGN_RBD_MAX] = '\0';
        assert_int_equal(foreign_rbd_parse(longest, &(struct foreign_rbd){}, NULL), -EINVAL);
}

/* --- a store on a directory --- */

struct place {
        char path[64];
        struct store *store;
};

static int place_up(void **state)
{
        struct place *p = calloc(1, sizeof(*p));
        char url[80];

        strcpy(p->path, "/tmp/test-foreign-XXXXXX");
        assert_non_null(mkdtemp(p->path));
        snprintf(url, sizeof(url), "dir:%s", p->path);
        assert_int_equal(store_open(url, NULL, &p->store, NULL), 0);
        assert_int_equal(store_prepare(p->store, NULL), 0);
        *state = p;
        return 0;
}

static int place_down(void **state)
{
        struct place *p = *state;
        char command[96];

        store_close(p->store);
        snprintf(command, sizeof(command), "rm -rf %s", p->path);
        assert_int_equal(system(command), 0);
        free(p);
        return 0;
}

/* A file below the store's root, of 12 MiB with data in the first and the last MiB. */
static int file_make(const struct place *p, const char *name)
{
        static char piece[1 << 20];
        char path[160];
        int fd;

        snprintf(path, sizeof(path), "%s/%s", p->path, name);
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
        assert_true(fd >= 0);
        memset(piece, 'x', sizeof(piece));
        assert_int_equal(pwrite(fd, piece, sizeof(piece), 0), sizeof(piece));
        assert_int_equal(pwrite(fd, piece, sizeof(piece), 11 << 20), sizeof(piece));
        return fd;
}

static void link_make(const struct place *p, const char *to, const char *name)
{
        char path[160];

        snprintf(path, sizeof(path), "%s/%s", p->path, name);
        assert_int_equal(symlink(to, path), 0);
}

static void a_file_is_read_with_its_holes(void **state)
{
        const struct place *p = *state;
        struct foreign *f = NULL;
        char buf[2];

        close(file_make(p, "import/a"));
        assert_int_equal(foreign_open(p->store, "a", &f, NULL), 0);
        assert_true(foreign_size(f) == 12 << 20);
        assert_int_equal(foreign_read(f, buf, 2, (1 << 20) - 1, NULL), 0);
        assert_memory_equal(buf, "x\0", 2);
        assert_true(foreign_hole(f, 0) == 0);
        assert_true(foreign_hole(f, 2 << 20) == 9 << 20);
        assert_true(foreign_hole(f, 12 << 20) == 0);
        assert_int_equal(foreign_read(f, buf, 2, (12 << 20) - 1, NULL), -EINVAL);
        assert_int_equal(foreign_unchanged(f, NULL), 0);
        foreign_close(f);
}

static void a_change_is_noticed(void **state)
{
        const struct place *p = *state;

        for (int i = 0; i < 4; i++) {
                struct foreign *f = NULL;
                struct err err = {0};
                char path[160], other[160];
                int fd = file_make(p, "import/a");
                struct timespec tick = {.tv_nsec = 20000000}; /* file times move in ticks of the kernel's */

                assert_int_equal(foreign_open(p->store, "a", &f, NULL), 0);
                nanosleep(&tick, NULL);
                snprintf(path, sizeof(path), "%s/import/a", p->path);
                snprintf(other, sizeof(other), "%s/import/b", p->path);
                if (i == 0)
                        assert_int_equal(pwrite(fd, "y", 1, 5 << 20), 1);
                else if (i == 1)
                        assert_int_equal(ftruncate(fd, 13 << 20), 0);
                else if (i == 2)
                        assert_int_equal(unlink(path), 0);
                else
                        assert_int_equal(rename(path, other), 0);
                assert_int_equal(foreign_unchanged(f, &err), -ESTALE);
                assert_non_null(strstr(err_text(&err), "volume a was "));
                foreign_close(f);
                close(fd);
        }
}

/* As QEMU marks it (byte 100 + 1: somebody writes). */
static void a_file_that_a_qemu_writes_is_refused(void **state)
{
        const struct place *p = *state;
        struct flock lock = {.l_type = F_RDLCK, .l_start = 101, .l_len = 1};
        struct foreign *f = NULL;
        struct err err = {0};
        int fd = file_make(p, "import/a");

        assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
        assert_int_equal(foreign_open(p->store, "a", &f, &err), -EBUSY);
        assert_non_null(strstr(err_text(&err), "QEMU"));
        lock.l_type = F_UNLCK;
        assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
        assert_int_equal(foreign_open(p->store, "a", &f, NULL), 0);
        lock.l_type = F_RDLCK;
        assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
        assert_int_equal(foreign_unchanged(f, NULL), -EBUSY);
        foreign_close(f);
        close(fd);
}

static void no_link_is_followed(void **state)
{
        static const char *const names[] = {
            "link", "folder-link/x", "folder-link/../x", "folder", "pipe", "folder-link", "empty"};
        const struct place *p = *state;
        struct foreign *f = NULL;
        char path[160];

        close(file_make(p, "images/x"));
        link_make(p, "../images/x", "import/link");
        link_make(p, "../images", "import/folder-link");
        snprintf(path, sizeof(path), "%s/import/folder", p->path);
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(path, sizeof(path), "%s/import/pipe", p->path);
        assert_int_equal(mkfifo(path, 0644), 0);
        snprintf(path, sizeof(path), "%s/import/empty", p->path);
        close(open(path, O_CREAT | O_WRONLY, 0644));
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                int r = foreign_open(p->store, names[i], &f, NULL);

                if (r != -EINVAL)
                        fail_msg("%s: %d", names[i], r);
        }
        assert_int_equal(foreign_open(p->store, "nothing", &f, NULL), -ENOENT);
        assert_int_equal(foreign_open(p->store, "nothing/x", &f, NULL), -ENOENT);
        close(file_make(p, "import/folder/x"));
        assert_int_equal(foreign_open(p->store, "folder/x", &f, NULL), 0);
        foreign_close(f);
}

static void an_engine_without_them_says_so(void **state)
{
        struct foreign *f = NULL;
        struct store *s;

        (void)state;
        assert_int_equal(store_open("mem:", NULL, &s, NULL), 0);
        assert_int_equal(foreign_open(s, "a", &f, NULL), -EOPNOTSUPP);
        store_close(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_path_stays_below_its_folder),
            cmocka_unit_test(an_rbd_name_has_its_parts),
            cmocka_unit_test(an_rbd_name_of_ours_or_of_nothing_is_refused),
            cmocka_unit_test_setup_teardown(a_file_is_read_with_its_holes, place_up, place_down),
            cmocka_unit_test_setup_teardown(a_change_is_noticed, place_up, place_down),
            cmocka_unit_test_setup_teardown(a_file_that_a_qemu_writes_is_refused, place_up, place_down),
            cmocka_unit_test_setup_teardown(no_link_is_followed, place_up, place_down),
            cmocka_unit_test(an_engine_without_them_says_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
