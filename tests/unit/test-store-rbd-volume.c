/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "tests/unit/rados-memory.h"

/* Golden images, instances' disks and others' images on RBD. */
static struct volume *make(struct store *s, const char *text)
{
        struct volume *v = NULL;
        struct err err = {0};

        assert_int_equal(volume_create(s, "gold", 1024, &v, &err), 0);
        assert_int_equal(volume_write(v, text, strlen(text), 512, &err), 0);
        return v;
}

static void an_image_is_sealed_once(void **state)
{
        struct volume *v = make(*state, "text"), *w = make(*state, "other"), *x = NULL;
        struct err err = {0};
        char buf[8] = "";

        assert_non_null(strstr(memory.log, "waited "));
        assert_int_equal(volume_open(*state, "gold", &x, &err), -ENOENT);
        memory.log[0] = '\0';
        assert_int_equal(volume_seal(v, &err), 0);
        assert_string_equal(memory.log, "flush snap set:gold ");
        assert_int_equal(volume_seal(w, &err), -EEXIST);
        volume_close(w);
        assert_int_equal(memory.image[0].there + memory.image[1].there, 1);
        assert_int_equal(memory.image[0].n_watchers, 0);
        memory.read_max = 3;
        assert_int_equal(volume_read(v, buf, 4, 512, &err), 0);
        assert_string_equal(buf, "text");
        assert_int_equal(volume_read(v, buf, 4, 1022, &err), -EINVAL);
        volume_close(v);
        assert_int_equal(volume_create(*state, "gold", 1024, &v, &err), -EEXIST);
        assert_int_equal(volume_open(*state, "gold", &v, &err), 0);
        assert_int_equal(volume_size(v), 1024);
        assert_int_equal(volume_read(v, buf, 4, 512, &err), 0);
        assert_string_equal(buf, "text");
        memory_fail("read_image", "", -ENOENT, 0);
        assert_int_equal(volume_read(v, buf, 4, 512, &err), -ENOENT);
        volume_close(v);
}

static void a_seal_whose_answer_is_lost_is_found_out(void **state)
{
        struct volume *v = make(*state, "text");
        struct err err = {0};

        memory_fail("operate", "golden", -ETIMEDOUT, 0);
        assert_int_equal(volume_seal(v, &err), -ETIMEDOUT);
        memory_fail("operate", "golden", ETIMEDOUT, 0);
        assert_int_equal(volume_seal(v, &err), 0);
        volume_close(v);
        assert_int_equal(memory.image[0].there, 1);
        assert_int_equal(volume_remove(*state, "gold", &err), 0);
        v = make(*state, "text");
        memory_fail("flush", "", -EIO, 0);
        assert_int_equal(volume_seal(v, &err), -EIO);
        memory_fail("open_read_only", "", -EIO, 0); /* all but the last step */
        assert_int_equal(volume_seal(v, &err), -EIO);
        assert_int_equal(volume_seal(v, &err), 0);
        volume_close(v);
        assert_int_equal(memory.image[1].there, 1);
        assert_int_equal(volume_remove(*state, "gold", &err), 0);
        v = make(*state, "text");
        memory_fail("operate", "golden", EIO, 0); /* a failure that was none */
        assert_int_equal(volume_seal(v, &err), -EIO);
        volume_close(v);
        assert_int_equal(memory.image[2].there, 1);
}

static void what_is_not_sealed_goes_or_stays(void **state)
{
        struct volume *v = make(*state, "text"), *w = NULL;
        struct err err = {0};
        char buf[8] = "";

        assert_int_equal(volume_resize(v, 2048, &err), 0);
        assert_int_equal(memory.image[0].size, 2048);
        volume_leave(v);
        assert_int_equal(memory.image[0].there, 1);
        assert_int_equal(volume_resume(*state, "gold", false, &v, &err), 0);
        assert_int_equal(memory.image[0].n_watchers, 0);
        assert_int_equal(volume_read(v, buf, 4, 512, &err), 0);
        assert_string_equal(buf, "text");
        volume_close(v);
        assert_int_equal(memory.image[0].there, 1);
        assert_int_equal(volume_resume(*state, "gold", true, &v, &err), 0);
        assert_int_equal(volume_size(v), 2048);
        assert_int_equal(memory.image[0].n_watchers, 1);
        assert_int_equal(volume_seal(v, &err), 0);
        assert_int_equal(volume_resume(*state, "gold", true, &w, &err), -ENOENT);
        assert_int_equal(volume_resume(*state, "none", true, &w, &err), -ENOENT);
        volume_close(v);
        v = NULL;
        assert_int_equal(volume_remove(*state, "gold", &err), 0);
        volume_leave(make(*state, "text"));
        volume_close(make(*state, "more")); /* what was left is replaced */
        assert_int_equal(memory.image[1].there + memory.image[2].there, 0);
        assert_int_equal(volume_remove(*state, "gold", &err), -ENOENT);
}

static void an_image_in_use_stays(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .image = "gold", .size = 1024};
        struct volume *v = make(*state, "text");
        struct err err = {0};
        struct lease nobody = {0};

        assert_int_equal(volume_seal(v, &err), 0);
        volume_close(v);
        assert_int_equal(lease_create(*state, "vm", &disk, 1, &err), 0);
        assert_int_equal(volume_remove(*state, "gold", &err), -EBUSY);
        assert_non_null(memory_get("/golden", "gold"));
        assert_int_equal(memory.image[0].sealed, 1);
        assert_int_equal(lease_remove(*state, "vm", &nobody, &disk, 1, &err), 0);
        strcpy(memory.image[0].watcher[0], "10.0.0.7:0/1");
        memory.image[0].n_watchers = 1;
        assert_int_equal(volume_remove(*state, "gold", &err), -EBUSY);
        assert_non_null(memory_get("/golden", "gold"));
        memory.image[0].n_watchers = 0;
        memory_fail("operate", "golden", -EIO, 0);
        assert_int_equal(volume_remove(*state, "gold", &err), -EIO);
        assert_int_equal(memory.image[0].there, 1);
        assert_int_equal(volume_remove(*state, "gold", &err), 0);
        assert_int_equal(memory.image[0].there, 0);
        assert_null(memory_get("/golden", "gold"));
}

static void an_image_says_where_it_is(void **state)
{
        _cleanup_(freep) char *url = NULL;
        struct attach a = {0};
        struct err err = {0};

        memory_set("/golden", "gold", "1024 golden.gold.1");
        memory_set("/golden", "odd", "golden.gold.1");
        memory.answer = "{\"mons\":[{\"public_addrs\":{\"addrvec\":[{\"addr\":\"m:1\"}]}}]}";
        assert_int_equal(volume_location(*state, "gold", &url, &err), 0);
        assert_string_equal(url, "rbd://fsid/pool/golden.gold.1/sealed");
        assert_int_equal(volume_location(*state, "none", &url, &err), -ENOENT);
        assert_int_equal(volume_location(*state, "odd", &url, &err), -EIO);
        assert_int_equal(volume_attach(*state, "gold", &a, &err), 0);
        assert_string_equal(a.path, "pool/golden.gold.1");
        assert_true(a.read_only && a.kind == ATTACH_RBD);
}

static void a_disk_is_read_under_its_name(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        const struct lease mine = {2, 2}, late = {1, 2};
        struct disk_reader *d = NULL;
        struct memory_image *i = memory_add("vm.e2.h2", false);
        struct err err = {0};
        char buf[8] = "";

        strcpy(i->data, "guest");
        memory_add("vm.e1.h2", false); /* a name that still resolves */
        assert_int_equal(disk_reader_open(*state, "vm", &late, &disk, &d, &err), -ESTALE);
        assert_int_equal(disk_reader_open(*state, "vm", &mine, &disk, &d, &err), 0);
        assert_int_equal(disk_reader_size(d), 1 << 20);
        memory.read_max = 2;
        assert_int_equal(disk_reader_read(d, buf, 5, 0, &err), 0);
        assert_string_equal(buf, "guest");
        assert_int_equal(i->n_watchers, 0);
        i->size = 2; /* shorter than it was: no bytes are made up */
        assert_int_equal(disk_reader_read(d, buf, 5, 0, &err), -EIO);
        disk_reader_close(d);
        memory_fail("open_read_only", "vm.", -ENOENT, 0);
        assert_int_equal(disk_reader_open(*state, "vm", &mine, &disk, &d, &err), -ESTALE);
        memory_fail("open_read_only", "vm.", -EIO, 0);
        assert_int_equal(disk_reader_open(*state, "vm", &mine, &disk, &d, &err), -EIO);
}

/* --- others' images --- */

static void anothers_image_must_stand_still(void **state)
{
        struct memory_image *i = memory_add("theirs", true);
        struct foreign *f = NULL;
        struct err err = {0};
        char id[64];

        assert_int_equal(foreign_open(*state, "none", &f, &err), -ENOENT);
        assert_int_equal(foreign_open(*state, "theirs", &f, &err), 0);
        assert_int_equal(foreign_size(f), 1 << 20);
        assert_int_equal(foreign_unchanged(f, &err), 0);
        i->written.tv_nsec = 1;
        assert_int_equal(foreign_unchanged(f, &err), -ESTALE);
        i->written = (struct timespec){.tv_sec = 1};
        assert_int_equal(foreign_unchanged(f, &err), -ESTALE);
        i->written = (struct timespec){0};
        i->size++;
        assert_int_equal(foreign_unchanged(f, &err), -ESTALE);
        i->size--;
        memory_watch("theirs", "10.0.0.7:0/1");
        assert_int_equal(foreign_unchanged(f, &err), -EBUSY);
        memory_watch("theirs", "10.0.0.8:0/1");
        assert_int_equal(foreign_unchanged(f, &err), -EBUSY);
        i->n_watchers = 0;
        memory_fail("watchers", "", -EIO, 0);
        assert_int_equal(foreign_unchanged(f, &err), -EIO);
        strcpy(id, i->id);
        strcpy(i->id, "gone");
        assert_int_equal(foreign_unchanged(f, &err), -ESTALE);
        strcpy(i->id, id);
        memory_fail("open_read_only", "theirs", -EIO, 0);
        assert_int_equal(foreign_unchanged(f, &err), -EIO);
        foreign_close(f);
        memory_watch("theirs", "10.0.0.7:0/1");
        assert_int_equal(foreign_open(*state, "theirs", &f, &err), -EBUSY);
        assert_int_equal(foreign_open(*state, "theirs@snap", &f, &err), 0); /* that cannot change */
        assert_int_equal(foreign_unchanged(f, &err), 0);
        memory_fail("snap_id", "snap", 1, 0);
        assert_int_equal(foreign_unchanged(f, &err), -ESTALE);
        foreign_close(f);
        memory_fail("open_read_only", "theirs", -EPERM, 0);
        assert_int_equal(foreign_open(*state, "theirs", &f, &err), -EACCES);
        memory_fail("ioctx", "other", -ENOENT, 0);
        assert_int_equal(foreign_open(*state, "other/theirs", &f, &err), -ENOENT);
        i->size = i->n_watchers = 0;
        assert_int_equal(foreign_open(*state, "theirs", &f, &err), -EINVAL);
}

#define CELL ((uint64_t)4 << 20)
#define WINDOW ((uint64_t)1 << 30)

static void only_what_is_known_to_be_empty_is_a_hole(void **state)
{
        struct foreign *f = NULL;
        struct err err = {0};

        memory_add("theirs", false)->size = WINDOW + CELL;
        assert_int_equal(foreign_open(*state, "theirs", &f, &err), 0);
        memory.n_diffs = 3;
        memory.diff[0] = (typeof(memory.diff[0])){CELL, CELL, 1};
        memory.diff[1] = (typeof(memory.diff[0])){3 * CELL, CELL, 0};
        memory.diff[2] = (typeof(memory.diff[0])){4 * CELL + 512, CELL, 1};
        memory.log[0] = '\0';
        assert_true(foreign_hole(f, 0) == CELL);
        assert_true(foreign_hole(f, 512) == CELL - 512);
        assert_true(foreign_hole(f, CELL) == 0);
        assert_true(foreign_hole(f, 2 * CELL - 1) == 0);
        assert_true(foreign_hole(f, 2 * CELL) == 2 * CELL);
        assert_true(foreign_hole(f, 5 * CELL) == 0);
        assert_true(foreign_hole(f, 6 * CELL) == WINDOW - 6 * CELL);
        assert_string_equal(memory.log, "diff:0:1073741824 "); /* asked once */
        memory.n_diffs = 0;
        memory.log[0] = '\0';
        assert_true(foreign_hole(f, WINDOW) >= CELL);
        assert_string_equal(memory.log, "diff:1073741824:4194304 ");
        memory_fail("diff", "", -EIO, 0);
        assert_true(foreign_hole(f, 0) == 0);
        foreign_close(f);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, memory_setup, memory_teardown)
        const struct CMUnitTest tests[] = {
            test(an_image_is_sealed_once),          test(a_seal_whose_answer_is_lost_is_found_out),
            test(what_is_not_sealed_goes_or_stays), test(an_image_in_use_stays),
            test(an_image_says_where_it_is),        test(a_disk_is_read_under_its_name),
            test(anothers_image_must_stand_still),  test(only_what_is_known_to_be_empty_is_a_hole),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
