/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "imaged/store/files.h"

/*
 * What a bare link() leaves open, made to happen: replies that get lost, requests that run twice or late,
 * and sleepers. Between the engine and a real directory stands a layer that misbehaves at the next link() or
 * rename().
 */
enum fault { FAULT_NONE, FAULT_LOST, FAULT_LOST_UNDONE, FAULT_TWICE, FAULT_RUN_BEFORE };

struct bad {
        const struct fs_ops *real;
        struct fs_ops ops;
        enum fault fault;
        void (*before)(void); /* FAULT_RUN_BEFORE: what others do while the caller sleeps */
        unsigned hits;
        unsigned read_in; /* reads until `before` runs right before one; 0: never */
};

static struct bad bad;
static struct store *store;
static char folder[64];

static int misbehave(struct fs *fs, const char *from, const char *to, struct err *err,
                     int (*real)(struct fs *, const char *, const char *, struct err *))
{
        enum fault fault = bad.fault;

        bad.fault = FAULT_NONE;
        bad.hits += fault != FAULT_NONE;
        switch (fault) {
        case FAULT_LOST: /* it happened, and nobody said so */
                real(fs, from, to, NULL);
                return err_set(err, -ETIMEDOUT, "no answer");
        case FAULT_LOST_UNDONE:
                return err_set(err, -ETIMEDOUT, "no answer");
        case FAULT_TWICE: /* a client that sends again after the first answer got lost */
                real(fs, from, to, NULL);
                return real(fs, from, to, err);
        case FAULT_RUN_BEFORE:
                bad.before();
                return real(fs, from, to, err);
        case FAULT_NONE:
                break;
        }
        return real(fs, from, to, err);
}

static int bad_link(struct fs *fs, const char *from, const char *to, struct err *err)
{
        return misbehave(fs, from, to, err, bad.real->link);
}

static int bad_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
        return misbehave(fs, from, to, err, bad.real->rename);
}

static int bad_read(struct fs *fs, const char *where, const char *const *names, size_t n, size_t max,
                    fs_text_cb cb, void *arg, struct err *err)
{
        if (bad.read_in > 0 && --bad.read_in == 0) {
                bad.hits++;
                bad.before();
        }
        return bad.real->read(fs, where, names, n, max, cb, arg, err);
}

static int begin(void **state)
{
        struct err err = {};
        char url[80];

        strcpy(folder, "/tmp/test-store-record-XXXXXX");
        assert_non_null(mkdtemp(folder));
        snprintf(url, sizeof(url), "dir:%s", folder);
        assert_int_equal(store_open(url, NULL, &store, &err), 0);
        assert_int_equal(store_prepare(store, &err), 0);
        bad = (struct bad){.real = files_of(store)->fs->ops};
        bad.ops = *bad.real;
        bad.ops.link = bad_link;
        bad.ops.rename = bad_rename;
        bad.ops.read = bad_read;
        files_of(store)->fs->ops = &bad.ops;
        return 0;
}

static int end(void **state)
{
        char command[96];

        store = store_close(store);
        snprintf(command, sizeof(command), "rm -rf %s", folder);
        return system(command);
}

static uint64_t put(uint64_t expected, const char *text)
{
        uint64_t version = 0;
        struct err err = {};
        int r = record_put(store, RECORD_HOST, "1", expected, text, &version, &err);

        if (r < 0)
                fail_msg("put: %d %s", r, err.text);
        return version;
}

static void expect(const char *want, uint64_t version)
{
        char *text = NULL;
        uint64_t v = 0;
        struct err err = {};

        assert_int_equal(record_get(store, RECORD_HOST, "1", &text, &v, &err), 0);
        assert_string_equal(text, want);
        assert_int_equal(v, version);
        free(text);
}

static void lost_reply_is_found_out(void **state)
{
        uint64_t v = put(0, "one");

        bad.fault = FAULT_LOST;
        assert_int_equal(put(v, "two"), v + 1);
        assert_int_equal(bad.hits, 1);
        expect("two", v + 1);
}

static void lost_request_is_unknown(void **state)
{
        uint64_t v = put(0, "one");
        struct err err = {};

        bad.fault = FAULT_LOST_UNDONE;
        assert_int_equal(record_put(store, RECORD_HOST, "1", v, "two", NULL, &err), -ETIMEDOUT);
        expect("one", v);
        assert_int_equal(put(v, "again"), v + 1);
}

static void retransmitted_link_still_wins(void **state)
{
        uint64_t v = put(0, "one");

        bad.fault = FAULT_TWICE; /* the second one says EEXIST */
        assert_int_equal(put(v, "two"), v + 1);
        expect("two", v + 1);
}

static void others_write(unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                _cleanup_(freep) char *text = NULL;
                uint64_t v = 0;
                struct err err = {};

                assert_int_equal(record_get(store, RECORD_HOST, "1", &text, &v, &err), 0);
                put(v, "others");
        }
}

static void one_other(void)
{
        others_write(1);
}

static void three_others(void)
{
        others_write(3);
}

static void twenty_others(void)
{
        others_write(20);
}

static void slower_writer_loses(void **state)
{
        uint64_t v = put(0, "one");
        struct err err = {};

        bad.fault = FAULT_RUN_BEFORE;
        bad.before = one_other;
        assert_int_equal(record_put(store, RECORD_HOST, "1", v, "late", NULL, &err), -ESTALE);
        expect("others", v + 1);
}

/* Its version was written and collected meanwhile, so its link works; it must not count, nor stay. */
static void sleeper_does_not_count(void **state)
{
        uint64_t v = put(0, "one");
        char path[160];
        struct err err = {};

        bad.fault = FAULT_RUN_BEFORE;
        bad.before = three_others;
        assert_int_equal(record_put(store, RECORD_HOST, "1", v, "sleeper", NULL, &err), -ESTALE);
        assert_int_equal(bad.hits, 1);
        expect("others", v + 3);
        snprintf(path, sizeof(path), "%s/records/host/1/1.v%" PRIu64, folder, v + 1);
        assert_int_equal(access(path, F_OK), -1);
}

/* Others write on, version 2 is collected, and a sleeper's link stands in its place. */
static void sleeper_takes_the_place(void)
{
        static const char file[] = "wherry-record live 00000000000000ff\nsleeper";
        char path[160];
        struct err err = {};

        others_write(3);
        snprintf(path, sizeof(path), "%s/records/host/1/1.v2", folder);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(file_write(path, file, strlen(file), 0600, &err), 0);
}

static void reader_is_not_deceived_by_a_sleeper(void **state)
{
        uint64_t v = put(put(0, "one"), "two");

        bad.before = sleeper_takes_the_place;
        bad.read_in = 1;
        expect("others", v + 3);
        assert_int_equal(bad.hits, 1);
}

static void winner_is_not_deceived_by_a_sleeper(void **state)
{
        uint64_t v = put(0, "one");

        bad.before = sleeper_takes_the_place;
        bad.read_in = 2; /* the first is before the link */
        assert_int_equal(put(v, "two"), v + 1);
        assert_int_equal(bad.hits, 1);
        expect("others", v + 4);
}

static int see_no_sleeper(void *arg, const char *id, uint64_t version, const char *text)
{
        assert_string_equal(text, "others");
        ++*(int *)arg;
        return 0;
}

static void list_is_not_deceived_by_a_sleeper(void **state)
{
        struct store *other = NULL; /* whose memory is empty */
        struct err err = {};
        int n = 0;

        put(put(0, "one"), "two");
        assert_int_equal(store_open(store_url(store), NULL, &other, &err), 0);
        files_of(other)->fs->ops = &bad.ops;
        bad.before = sleeper_takes_the_place;
        bad.read_in = 1;
        for (int i = 0; i < 2; i++)
                assert_int_equal(record_list(other, RECORD_HOST, see_no_sleeper, &n, &err), 0);
        assert_int_equal(n, 2);
        assert_int_equal(bad.hits, 1);
        store_close(other);
}

static void long_sleeper_cannot_tell(void **state)
{
        uint64_t v = put(0, "one");
        struct err err = {};

        bad.fault = FAULT_RUN_BEFORE;
        bad.before = twenty_others;
        assert_int_equal(record_put(store, RECORD_HOST, "1", v, "sleeper", NULL, &err), -ETIMEDOUT);
        expect("others", v + 20);
}

static void old_versions_are_collected(void **state)
{
        char command[128];

        put(0, "one");
        others_write(30);
        snprintf(command, sizeof(command), "test $(ls %s/records/host/1 | wc -l) -eq 2", folder);
        assert_int_equal(system(command), 0);
        snprintf(command, sizeof(command), "test -z \"$(ls %s/tmp)\"", folder);
        assert_int_equal(system(command), 0);
}

static void broken_file_is_an_error(void **state)
{
        static const char *const broken[] = {"", "wherry-record", "wherry-record live x\n", "{}\n",
                                             "wherry-record live "};
        char path[160], *text = NULL;
        uint64_t v;

        put(0, "one");
        snprintf(path, sizeof(path), "%s/records/host/1/1.v2", folder);
        for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
                struct err err = {};

                assert_int_equal(file_write(path, broken[i], strlen(broken[i]), 0600, &err), 0);
                assert_int_equal(record_get(store, RECORD_HOST, "1", &text, &v, &err), -EIO);
                assert_int_equal(record_put(store, RECORD_HOST, "1", 2, "x", NULL, &err), -EIO);
        }
}

static const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};

static void claim_with_a_lost_reply_is_won(void **state)
{
        struct lease one = {}, two = {};
        struct err err = {};

        assert_int_equal(lease_create(store, "i1", &disk, 1, &err), 0);
        bad.fault = FAULT_LOST;
        assert_int_equal(lease_claim(store, "i1", &(struct lease){}, 5, false, &one, &err), 0);
        assert_true(one.epoch == 1 && one.host == 5);
        /* "Not there" is an answer: who has the new name is another process with that number, for all that
         * this call knows. */
        bad.fault = FAULT_TWICE; /* the second RENAME says ENOENT */
        assert_int_equal(lease_claim(store, "i1", &one, 6, false, &two, &err), -ESTALE);
        assert_int_equal(lease_claim(store, "i1", &one, 6, true, &one, &err), 0);
        assert_true(one.epoch == 2 && one.host == 6);
        bad.fault = FAULT_LOST_UNDONE;
        assert_int_equal(lease_claim(store, "i1", &one, 7, false, &one, &err), -ETIMEDOUT);
        assert_int_equal(bad.hits, 3);
        assert_int_equal(lease_find(store, "i1", &one, &err), 0);
        assert_true(one.epoch == 2 && one.host == 6);
}

static void seal_with_a_lost_reply_is_done(void **state)
{
        struct volume *v = NULL;
        struct err err = {};

        assert_int_equal(volume_create(store, "img", 4096, &v, &err), 0);
        bad.fault = FAULT_LOST;
        assert_int_equal(volume_seal(v, &err), 0);
        assert_int_equal(bad.hits, 1);
        volume_close(v);
        assert_int_equal(volume_open(store, "img", &v, &err), 0);
        volume_close(v);
}

static void crash(void)
{
        /* a disk is made while the image is being removed: it has its link already */
        char command[256];

        snprintf(command, sizeof(command), "cd %s/images && ln img.raw ../tmp/user", folder);
        assert_int_equal(system(command), 0);
}

static void image_that_gets_a_user_while_it_is_removed_stays(void **state)
{
        struct volume *v = NULL;
        struct err err = {};
        char command[256];

        assert_int_equal(volume_create(store, "img", 4096, &v, &err), 0);
        assert_int_equal(volume_seal(v, &err), 0);
        volume_close(v);
        bad.fault = FAULT_RUN_BEFORE;
        bad.before = crash;
        assert_int_equal(volume_remove(store, "img", &err), -EBUSY);
        assert_int_equal(volume_open(store, "img", &v, &err), 0);
        volume_close(v);
        /* and the remover that crashed between its two steps */
        snprintf(command, sizeof(command), "cd %s/images && mv img.raw img.0123456789abcdef.gone", folder);
        assert_int_equal(system(command), 0);
        assert_int_equal(volume_open(store, "img", &v, &err), -ENOENT);
        assert_int_equal(store_prepare(store, &err), 0);
        assert_int_equal(volume_open(store, "img", &v, &err), 0);
        volume_close(v);
}

#define FAULTY(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
        const struct CMUnitTest tests[] = {
            FAULTY(lost_reply_is_found_out),
            FAULTY(lost_request_is_unknown),
            FAULTY(retransmitted_link_still_wins),
            FAULTY(slower_writer_loses),
            FAULTY(sleeper_does_not_count),
            FAULTY(reader_is_not_deceived_by_a_sleeper),
            FAULTY(winner_is_not_deceived_by_a_sleeper),
            FAULTY(list_is_not_deceived_by_a_sleeper),
            FAULTY(long_sleeper_cannot_tell),
            FAULTY(old_versions_are_collected),
            FAULTY(broken_file_is_an_error),
            FAULTY(claim_with_a_lost_reply_is_won),
            FAULTY(seal_with_a_lost_reply_is_done),
            FAULTY(image_that_gets_a_user_while_it_is_removed_stays),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
