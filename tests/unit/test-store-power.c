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
#include "imaged/store/store.h"
#include "tests/store/power-nfs.h"

/*
 * Every change that the store acknowledges outlives a power cut; one that is cut off anywhere has happened as
 * a whole or not at all, and may be asked for again. The same with an operation of the file system that fails, is
 * lost, or finds no room, at each place in turn.
 */
static struct store *store;

#define IMAGE "11111111-1111-4111-8111-111111111111"
#define OTHER "22222222-2222-4222-8222-222222222222"
#define VM "33333333-3333-4333-8333-333333333333"
#define GOLDEN "what a golden image holds"

static const struct disk_spec disks[] = {{.name = "disk0", .image = IMAGE, .size = 1 << 20},
                                         {.name = "data", .size = 1 << 20},
                                         {.name = "seed", .content = "seed", .n_content = 4}};
#define N_DISKS 3

static void reopen(void)
{
        struct err err = {};

        store = store_close(store);
        if (store_open("nfs://server/export", NULL, &store, &err) < 0 || store_prepare(store, &err) < 0)
                fail_msg("%s", err_text(&err));
}

static void must(int r, const struct err *err)
{
        if (r < 0)
                fail_msg("%d: %s", r, err_text(err));
}

/* --- a record --- */

static bool record_is(const char *id, const char *want, uint64_t want_version)
{
        _cleanup_(freep) char *text = NULL;
        uint64_t version = 0;
        struct err err = {};
        int r = record_get(store, RECORD_HOST, id, &text, &version, &err);

        if (!want || r == -ENOENT)
                return !want && r == -ENOENT;
        must(r, &err);
        return streq(text, want) && version == want_version;
}

static void no_records(void)
{
}

static int put_first(struct err *err)
{
        return record_put(store, RECORD_HOST, "1", 0, "one", NULL, err);
}

static bool is_absent(void)
{
        return record_is("1", NULL, 0);
}

static bool is_first(void)
{
        return record_is("1", "one", 1);
}

static void with_first(void)
{
        struct err err = {};

        must(put_first(&err), &err);
}

static int put_second(struct err *err)
{
        return record_put(store, RECORD_HOST, "1", 1, "two", NULL, err);
}

static bool is_second(void)
{
        return record_is("1", "two", 2);
}

static int put_deleted(struct err *err)
{
        return record_put(store, RECORD_HOST, "1", 1, NULL, NULL, err);
}

static void with_deleted(void)
{
        struct err err = {};

        with_first();
        must(put_deleted(&err), &err);
}

static bool is_third(void)
{
        return record_is("1", "one", 3);
}

/* --- a golden image --- */

static int make_image(struct err *err)
{
        struct volume *v = NULL;
        int r = volume_create(store, IMAGE, 512, &v, err);

        if (r == 0)
                r = volume_write(v, GOLDEN, strlen(GOLDEN), 0, err);
        if (r == 0)
                r = volume_resize(v, 1024, err);
        if (r == 0)
                r = volume_seal(v, err);
        if (r < 0)
                volume_leave(v);
        else
                volume_close(v);
        return r;
}

static bool no_image(void)
{
        struct volume *v = NULL;
        struct err err = {};
        int r = volume_open(store, IMAGE, &v, &err);

        volume_close(v);
        return r == -ENOENT;
}

static bool image_is_whole(void)
{
        char got[sizeof(GOLDEN)] = "";
        struct volume *v = NULL;
        struct err err = {};

        if (no_image())
                return false;
        must(volume_open(store, IMAGE, &v, &err), &err);
        assert_int_equal(volume_size(v), 1024);
        must(volume_read(v, got, strlen(GOLDEN), 0, &err), &err);
        assert_string_equal(got, GOLDEN);
        volume_close(v);
        return true;
}

static void with_image(void)
{
        struct err err = {};

        must(make_image(&err), &err);
}

static int remove_image(struct err *err)
{
        return volume_remove(store, IMAGE, err);
}

static void with_part(void)
{
        struct volume *v = NULL;
        struct err err = {};

        must(volume_create(store, IMAGE, 1024, &v, &err), &err);
        must(volume_write(v, GOLDEN, strlen(GOLDEN), 0, &err), &err);
        volume_leave(v);
}

/* A part's name is nobody's promise, so after a power cut it may be gone; then it is made anew. */
static int resume_image(struct err *err)
{
        struct volume *v = NULL;
        int r = volume_resume(store, IMAGE, true, &v, err);

        if (r == -ENOENT)
                return make_image(err);
        if (r == 0)
                r = volume_resize(v, 1024, err); /* of a file that a power cut took its content from */
        if (r == 0)
                r = volume_write(v, GOLDEN, strlen(GOLDEN), 0, err);
        if (r == 0)
                r = volume_seal(v, err);
        if (r < 0)
                volume_leave(v);
        else
                volume_close(v);
        return r;
}

/* --- an instance's disks --- */

static int make_disks(struct err *err)
{
        return lease_create(store, VM, disks, N_DISKS, err);
}

static bool lease_is(uint64_t epoch, unsigned host)
{
        struct lease l = {};
        struct err err = {};
        int r = lease_find(store, VM, &l, &err);

        if (r == -ENOENT)
                return false;
        must(r, &err);
        return l.epoch == epoch && l.host == host;
}

static bool no_disks(void)
{
        struct lease l;
        struct err err = {};

        return lease_find(store, VM, &l, &err) == -ENOENT;
}

static bool disks_are_at(uint64_t epoch, unsigned host)
{
        char path[200];
        struct fs_attr a;

        if (!lease_is(epoch, host))
                return false;
        for (size_t i = 0; i < N_DISKS; i++) {
                snprintf(path, sizeof(path), "instances/33/" VM ".e%u.h%u/%s.%s", (unsigned)epoch, host,
                         disks[i].name, disks[i].content ? "iso" : "qcow2");
                assert_int_equal(power_stat(path, &a), 0);
                assert_true(disks[i].content ? a.size == 4 : a.size > 512);
        }
        snprintf(path, sizeof(path), "instances/33/" VM ".e%u.h%u/image-" IMAGE, (unsigned)epoch, host);
        assert_int_equal(power_stat(path, &a), 0);
        assert_true(a.nlink >= 2); /* one more where a creation was cut off, until the sweep */
        return true;
}

static bool disks_are_whole(void)
{
        return disks_are_at(0, 0);
}

static void with_disks(void)
{
        struct err err = {};

        with_image();
        must(make_disks(&err), &err);
}

static int claim(struct err *err)
{
        struct lease ret;

        return lease_claim(store, VM, &(struct lease){}, 7, false, &ret, err);
}

static bool is_claimed(void)
{
        return disks_are_at(1, 7);
}

static void with_claim(void)
{
        struct err err = {};

        with_disks();
        must(claim(&err), &err);
}

static int remove_disks(struct err *err)
{
        return lease_remove(store, VM, &(struct lease){1, 7}, disks, N_DISKS, err);
}

static bool claimed(void)
{
        return lease_is(1, 7);
}

static bool unclaimed(void)
{
        return lease_is(0, 0);
}

/* --- each at every place --- */

static const struct scenario {
        const char *name;
        void (*before)(void);
        int (*act)(struct err *err);
        bool (*was)(void), (*is)(void);
        int done_already; /* what the call says once it has been done */
} scenarios[] = {
    {"a first record", no_records, put_first, is_absent, is_first, -ESTALE},
    {"a next version", with_first, put_second, is_first, is_second, -ESTALE},
    {"a deleted record", with_first, put_deleted, is_first, is_absent, -ESTALE},
    {"a record after a deleted one", with_deleted, put_first, is_absent, is_third, -ESTALE},
    {"an image", no_records, make_image, no_image, image_is_whole, -EEXIST},
    {"an image that was begun before", with_part, resume_image, no_image, image_is_whole, -EEXIST},
    {"an image's removal", with_image, remove_image, image_is_whole, no_image, -ENOENT},
    {"new disks", with_image, make_disks, no_disks, disks_are_whole, -EEXIST},
    {"a claim", with_disks, claim, unclaimed, is_claimed, -ESTALE},
    {"removed disks", with_claim, remove_disks, claimed, no_disks, 0},
};

static void begin(const struct scenario *s)
{
        power_reset();
        power_server = (struct power_server){};
        reopen();
        s->before();
}

/* The call again, until it works or has worked before. */
static void ask_again(const struct scenario *s, const char *when)
{
        struct err err = {};
        int r = s->act(&err);

        if (r < 0 && r != s->done_already)
                fail_msg("%s, %s, asked again: %d %s", s->name, when, r, err_text(&err));
        if (!s->is())
                fail_msg("%s, %s, asked again: it is not so", s->name, when);
}

static void check(const struct scenario *s, const char *when, int r, const struct err *err)
{
        bool is = s->is(), was = s->was();

        if (r == 0 && !is)
                fail_msg("%s, %s: acknowledged, and not so", s->name, when);
        if (!is && !was)
                fail_msg("%s, %s: neither done nor undone: %d %s", s->name, when, r, err_text(err));
}

static void what_was_acknowledged_outlives_a_power_cut(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++) {
                const struct scenario *s = &scenarios[i];
                struct err err = {};

                begin(s);
                must(s->act(&err), &err);
                power_cut(LOSE_ALL);
                reopen();
                if (!s->is())
                        fail_msg("%s: lost by a power cut", s->name);
                ask_again(s, "after a power cut");
        }
}

static void what_is_cut_off_is_done_or_undone(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++)
                for (enum power_loss loss = LOSE_ALL; loss <= LOSE_CONTENT; loss++)
                        for (unsigned k = 0, n = 1; k < n; k++) {
                                const struct scenario *s = &scenarios[i];
                                struct err err = {};
                                char when[64];
                                int r;

                                snprintf(when, sizeof(when), "power cut %d at operation %u", loss, k);
                                begin(s);
                                power_aim(POWER_OFF, k);
                                r = s->act(&err);
                                n = power_ops() > k ? k + 2 : 0; /* until there is no such operation */
                                power_cut(loss);
                                reopen();
                                /* New disks may have a name and half a disk; nobody was told of them. */
                                if (s->act != make_disks || r == 0)
                                        check(s, when, r, &err);
                                if (s->act == make_disks && r < 0)
                                        must(
                                            lease_remove(store, VM, &(struct lease){}, disks, N_DISKS, &err),
                                            &err);
                                ask_again(s, when);
                        }
}

static void an_operation_that_fails_or_is_lost_leaves_it_done_or_undone(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++)
                for (enum power_fault fault = POWER_FAIL; fault <= POWER_LOSE; fault++)
                        for (unsigned k = 0, n = 1; k < n; k++) {
                                const struct scenario *s = &scenarios[i];
                                struct err err = {};
                                char when[64];
                                int r;

                                snprintf(when, sizeof(when), "fault %d at operation %u", fault, k);
                                begin(s);
                                power_aim(fault, k);
                                r = s->act(&err);
                                n = power_ops() > k ? k + 2 : 0;
                                power_aim(POWER_NONE, 0);
                                check(s, when, r, &err);
                                if (fault != POWER_FULL) /* said so, and not "lost" to another */
                                        assert_true(r >= 0 || r == -EIO || r == -ETIMEDOUT);
                                else if (r < 0)
                                        assert_true(r == -ENOSPC || r == -ETIMEDOUT);
                                ask_again(s, when);
                        }
}

/* Nothing stays behind in tmp/ or images/ where all went well. */
static void nothing_stays_behind(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++) {
                const struct scenario *s = &scenarios[i];
                struct err err = {};

                begin(s);
                must(s->act(&err), &err);
                assert_int_equal(power_count("tmp"), 0);
                assert_int_equal(power_count("images"), image_is_whole() ? 1 : 0);
        }
}

/* An empty store is prepared by somebody who is cut off anywhere, and then by the next. */
static void preparing_may_be_cut_off(void **state)
{
        static const char *const folders[] = {"records/image", "records/manifest", "beats", "images",
                                              "instances",     "starts",           "locks", "tmp",
                                              "import",        "reserve"};

        for (unsigned k = 0, n = 1; k < n; k++) {
                struct err err = {};
                int r;

                power_reset();
                store = store_close(store);
                must(store_open("nfs://server/export", NULL, &store, &err), &err);
                power_aim(POWER_OFF, k);
                r = store_prepare(store, &err);
                n = power_ops() > k ? k + 2 : 0;
                power_cut(LOSE_ALL);
                if (r < 0)
                        reopen();
                for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
                        struct fs_attr a;

                        assert_int_equal(power_stat(folders[i], &a), 0);
                        assert_int_equal(a.mode & 0066, 0);
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(what_was_acknowledged_outlives_a_power_cut),
            cmocka_unit_test(what_is_cut_off_is_done_or_undone),
            cmocka_unit_test(an_operation_that_fails_or_is_lost_leaves_it_done_or_undone),
            cmocka_unit_test(nothing_stays_behind),
            cmocka_unit_test(preparing_may_be_cut_off),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);

        store_close(store);
        return failed;
}
