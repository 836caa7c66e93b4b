/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

/*
 * One fault at one operation: the steps on which ownership rests, each with its answer lost, never sent,
 * late, and (nfs) sent twice. Here the engine's own answers are what counts: "unknown" where it cannot know,
 * and never a second owner.
 */
struct aim {
        const char *op;
        unsigned skip;
};

/* The one step of a claim that decides; of a record's write; of the birth of disks. */
static struct aim claim_step(struct suite *s)
{
        if (streq(store_engine(s->store), "rbd"))
                return (struct aim){"write-op", 1}; /* behind the object that holds the new name */
        return (struct aim){streq(store_engine(s->store), "mem") ? "claim" : "rename"};
}

static struct aim put_step(struct suite *s)
{
        if (streq(store_engine(s->store), "rbd"))
                return (struct aim){"write-op"};
        return (struct aim){streq(store_engine(s->store), "mem") ? "put" : "link"};
}

static void aim(struct aim at, enum fault fault)
{
        fault_aim(at.op, fault, at.skip);
}

/* The fault has happened, so the test has tested something; and what was late has arrived. */
static void aim_done(void)
{
        assert_true(fault_hit());
        for (int i = 0; i < 3; i++)
                fault_pause_late();
}

static void expect_lease(struct store *s, const char *id, uint64_t epoch, unsigned host)
{
        struct lease l = {};
        struct err err;

        assert_ok(lease_find(s, id, &l, &err));
        assert_int_equal(l.epoch, epoch);
        assert_int_equal(l.host, host);
}

static void claim_whose_answer_is_lost_is_a_win_or_unknown(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {};
        char id[UUID_LEN + 1];
        struct err err;
        int r;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        aim(claim_step(s), FAULT_LOSE);
        r = lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err);
        assert_true(fault_hit());
        /* where there is something to look at it is found out in the same call */
        assert_int_equal(r, streq(store_engine(s->store), "mem") ? -ETIMEDOUT : 0);
        expect_lease(s->second, id, 1, 1);
        assert_fails(-ESTALE, lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
        assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, true, &one, &err));
        assert_true(one.epoch == 1 && one.host == 1);
        assert_fails(-ESTALE, lease_claim(s->second, id, &(struct lease){}, 2, false, &one, &err));
}

static void claim_that_never_arrived_is_unknown_and_may_be_made_again(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {};
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        aim(claim_step(s), FAULT_DROP);
        assert_fails(-ETIMEDOUT, lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
        assert_true(fault_hit());
        expect_lease(s->second, id, 0, 0);
        assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
        assert_true(one.epoch == 1 && one.host == 1);
}

static void late_claim_cannot_win_against_one_that_was_made_since(void **state)
{
        struct suite *s = suite_of(state);
        struct lease mine = {}, theirs = {};
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        aim(claim_step(s), FAULT_LATE);
        assert_fails(-ETIMEDOUT, lease_claim(s->store, id, &(struct lease){}, 1, false, &mine, &err));
        assert_ok(lease_claim(s->second, id, &(struct lease){}, 2, false, &theirs, &err));
        aim_done();
        expect_lease(s->store, id, 1, 2);
        assert_fails(-ESTALE, lease_claim(s->store, id, &(struct lease){}, 1, false, &mine, &err));
        assert_ok(lease_claim(s->second, id, &theirs, 2, false, &theirs, &err));
        expect_lease(s->store, id, 2, 2);
}

static void late_claim_of_mine_is_mine_when_i_look_again(void **state)
{
        struct suite *s = suite_of(state);
        struct lease mine = {};
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        aim(claim_step(s), FAULT_LATE);
        assert_fails(-ETIMEDOUT, lease_claim(s->store, id, &(struct lease){}, 1, false, &mine, &err));
        aim_done();
        /* Another call: it may be another's of my number. The name is mine, and the next claim begins there.
         */
        assert_fails(-ESTALE, lease_claim(s->store, id, &(struct lease){}, 1, false, &mine, &err));
        expect_lease(s->second, id, 1, 1);
        assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, true, &mine, &err));
        assert_true(mine.epoch == 1 && mine.host == 1);
        assert_ok(lease_claim(s->store, id, &mine, 1, false, &mine, &err));
        expect_lease(s->second, id, 2, 1);
}

static void expect_record(struct store *s, const char *id, const char *want, uint64_t version)
{
        _cleanup_(freep) char *text = NULL;
        uint64_t v = 0;
        struct err err;

        assert_ok(record_get(s, RECORD_HOST, id, &text, &v, &err));
        assert_string_equal(text, want);
        assert_int_equal(v, version);
}

static void record_whose_answer_is_lost_is_known_to_be_written(void **state)
{
        struct suite *s = suite_of(state);
        uint64_t v = 0;
        char id[UUID_LEN + 1];
        struct err err;
        int r;

        uuid_random(id);
        assert_ok(record_put(s->store, RECORD_HOST, id, 0, "1", &v, &err));
        aim(put_step(s), FAULT_LOSE);
        r = record_put(s->store, RECORD_HOST, id, v, "2", &v, &err);
        assert_true(fault_hit());
        assert_int_equal(r, streq(store_engine(s->store), "mem") ? -ETIMEDOUT : 0);
        expect_record(s->second, id, "2", 2);
        assert_fails(-ESTALE, record_put(s->second, RECORD_HOST, id, 1, "late", NULL, &err));
}

static void late_record_cannot_overwrite_what_was_written_since(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        assert_ok(record_put(s->store, RECORD_HOST, id, 0, "1", NULL, &err));
        aim(put_step(s), FAULT_LATE);
        assert_fails(-ETIMEDOUT, record_put(s->store, RECORD_HOST, id, 1, "mine", NULL, &err));
        assert_ok(record_put(s->second, RECORD_HOST, id, 1, "theirs", NULL, &err));
        aim_done();
        expect_record(s->store, id, "theirs", 2);
        /* the sleeper: the others go on so far that its version has been collected */
        aim(put_step(s), FAULT_LATE);
        assert_fails(-ETIMEDOUT, record_put(s->store, RECORD_HOST, id, 2, "mine", NULL, &err));
        for (uint64_t v = 2; v < 6; v++)
                assert_ok(record_put(s->second, RECORD_HOST, id, v, "theirs", NULL, &err));
        aim_done();
        expect_record(s->store, id, "theirs", 6);
        assert_ok(record_put(s->store, RECORD_HOST, id, 6, "at last", NULL, &err));
}

struct seen {
        const char *id;
        unsigned n;
};

static int count_leases(void *arg, const char *instance, const struct lease *lease)
{
        struct seen *seen = arg;

        if (streq(instance, seen->id))
                seen->n++;
        return 0;
}

/* A late RENAME of new disks must not put a second name beside the true one. */
static void late_creation_leaves_one_instance(void **state)
{
        static const enum fault kinds[] = {FAULT_LOSE, FAULT_DROP, FAULT_LATE};
        struct suite *s = suite_of(state);
        struct err err;

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                char id[UUID_LEN + 1];
                struct seen seen = {.id = id};
                struct lease one = {};
                int r;

                uuid_random(id);
                fault_aim("rename", kinds[i], 0);
                r = lease_create(s->store, id, &plain_disk, 1, &err);
                assert_int_equal(r, kinds[i] == FAULT_LOSE ? 0 : -ETIMEDOUT);
                if (r < 0)
                        disks_make(s->store, id, &plain_disk, 1);
                assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
                aim_done();
                assert_ok(lease_list(s->second, count_leases, &seen, &err));
                assert_int_equal(seen.n, 1);
                expect_lease(s->second, id, 1, 1);
                assert_ok(lease_remove(s->store, id, &one, &plain_disk, 1, &err));
                assert_fails(-ENOENT, lease_find(s->second, id, &one, &err));
        }
}

/* An image is free at once when the removal of its only disk was answered by nobody. */
static void removal_whose_answer_is_lost_is_whole(void **state)
{
        struct suite *s = suite_of(state);
        char image[UUID_LEN + 1], id[UUID_LEN + 1];
        const struct disk_spec disk = {.name = "disk0", .image = image, .size = 8 * MIB};
        struct err err;

        uuid_random(image);
        uuid_random(id);
        image_make(s->store, image, MIB, "golden");
        disks_make(s->store, id, &disk, 1);
        fault_aim("rename", FAULT_LOSE, 0);
        assert_ok(lease_remove(s->store, id, &(struct lease){}, &disk, 1, &err));
        assert_true(fault_hit());
        fault_aim("rename", FAULT_LOSE, 0);
        assert_ok(volume_remove(s->store, image, &err));
        assert_true(fault_hit());
}

/* The fence's SETATTR (nfs). Unknown: the epoch is given up, and the next claim works. */
static void fence_without_an_answer_costs_the_epoch(void **state)
{
        static const enum fault kinds[] = {FAULT_LOSE, FAULT_DROP, FAULT_LATE, FAULT_MUTE};
        struct suite *s = suite_of(state);
        struct err err;

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                struct lease one = {}, two = {};
                struct start first, second;
                char id[UUID_LEN + 1];

                uuid_random(id);
                disks_make(s->store, id, &plain_disk, 1);
                assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
                start_init(&first, id, one.epoch, NULL, NULL, 0);
                fault_aim("setattr", kinds[i], 0);
                assert_fails(-ETIMEDOUT, lease_fence(s->store, id, &one, &first, &plain_disk, 1, &err));
                assert_ok(lease_claim(s->store, id, &one, 1, false, &two, &err));
                start_init(&second, id, two.epoch, NULL, NULL, 0);
                assert_ok(lease_fence(s->store, id, &two, &second, &plain_disk, 1, &err));
                aim_done();
                /* the late one found its guard broken */
                assert_ok(lease_gate(s->store, id, &two, &second, &plain_disk, 1, &err));
                assert_fails(-EACCES, lease_gate(s->store, id, &one, &first, &plain_disk, 1, &err));
        }
}

static void late_grant_gives_nothing_after_the_next_fence(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {}, two = {};
        struct start first, attempt;
        struct commit_claim runs_on = {.host = 1, .last = &first, .start = &first};
        struct attach a = {};
        struct qemu *q;
        char id[UUID_LEN + 1], *why = NULL;
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
        start_init(&first, id, one.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s->store, id, &one, &first, &plain_disk, 1, &err));
        start_init(&attempt, id, one.epoch, "attempt-late", NULL, 0);
        fault_aim("setattr", FAULT_LATE, 0);
        assert_fails(-ETIMEDOUT, lease_grant(s->store, id, &one, &attempt, &plain_disk, 1, &err));
        /* the source cannot tell, and goes on with a new claim */
        runs_on.from = one;
        assert_ok(lease_commit(s->store, id, &runs_on, &plain_disk, 1, &two, &err));
        aim_done();
        assert_ok(lease_attach(s->second, id, &two, &attempt, &plain_disk, 1, &a, &err));
        q = qemu_open(&a, &why);
        assert_null(q);
        free(why);
        assert_ok(lease_gate(s->store, id, &two, &first, &plain_disk, 1, &err));
}

/* Sent again on a new connection, where the first answer was lost: the second answer says EEXIST, ENOENT, or
 * that the guard does not hold. A claim is lost then, as it has an answer that says so; the rest is known.
 */
static void requests_that_arrive_twice_are_done_once(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {};
        struct start first;
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        fault_aim("rename", FAULT_TWICE, 0);
        disks_make(s->store, id, &plain_disk, 1);
        assert_true(fault_hit());
        fault_aim("rename", FAULT_TWICE, 0);
        assert_fails(-ESTALE, lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
        assert_true(fault_hit());
        assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, true, &one, &err));
        assert_true(one.epoch == 1 && one.host == 1);
        start_init(&first, id, one.epoch, NULL, NULL, 0);
        fault_aim("setattr", FAULT_TWICE, 0);
        assert_ok(lease_fence(s->store, id, &one, &first, &plain_disk, 1, &err));
        assert_true(fault_hit());
        assert_ok(lease_gate(s->store, id, &one, &first, &plain_disk, 1, &err));
        assert_ok(record_put(s->store, RECORD_HOST, id, 0, "1", NULL, &err));
        fault_aim("link", FAULT_TWICE, 0);
        assert_ok(record_put(s->store, RECORD_HOST, id, 1, "2", NULL, &err));
        assert_true(fault_hit());
        expect_record(s->second, id, "2", 2);
}

/* Nobody answers at all: each call ends by the time limit, as unknown. */
static void silence_ends_by_the_time_limit(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {};
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        assert_ok(record_put(s->store, RECORD_HOST, id, 0, "1", NULL, &err));
        fault_aim("rename", FAULT_MUTE, 0);
        assert_fails(-ETIMEDOUT, lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
        assert_true(fault_hit());
        fault_aim("link", FAULT_MUTE, 0);
        assert_fails(-ETIMEDOUT, record_put(s->store, RECORD_HOST, id, 1, "2", NULL, &err));
        assert_true(fault_hit());
        expect_lease(s->store, id, 0, 0);
        expect_record(s->store, id, "1", 1);
}

/* The same of Ceph: its OSD is stopped, and does what it was asked for when it goes on. */
static void stopped_osd_ends_calls_by_the_time_limit(void **state)
{
        const char *text = getenv("STORE_OSD_PID");
        struct suite *s = suite_of(state);
        _cleanup_(freep) char *now = NULL;
        struct lease one = {};
        uint64_t version = 0;
        char id[UUID_LEN + 1];
        struct err err;
        pid_t osd;

        assert_non_null(text);
        osd = (pid_t)atoi(text);
        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        assert_ok(record_put(s->store, RECORD_HOST, id, 0, "1", NULL, &err));
        assert_int_equal(kill(osd, SIGSTOP), 0);
        int put = record_put(s->store, RECORD_HOST, id, 1, "2", NULL, &err);
        int claimed = lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err);

        assert_int_equal(kill(osd, SIGCONT), 0);
        assert_int_equal(put, -ETIMEDOUT);
        assert_int_equal(claimed, -ETIMEDOUT);
        for (int i = 0; i < 100; i++) {
                int r = lease_claim(s->store, id, &(struct lease){}, 1, true, &one, &err);

                if (r == 0)
                        break;
                assert_int_equal(r, -ETIMEDOUT);
        }
        assert_true(one.epoch == 1 && one.host == 1);
        expect_lease(s->second, id, 1, 1);
        assert_ok(record_get(s->second, RECORD_HOST, id, &now, &version, &err));
        assert_true((version == 1 && streq(now, "1")) || (version == 2 && streq(now, "2")));
}

/* What applies to which engine: no other has the operation that the fault is aimed at. */
const struct engine_test lost_tests[] = {
    {ON_ALL, cmocka_unit_test(claim_whose_answer_is_lost_is_a_win_or_unknown)},
    {ON_ALL, cmocka_unit_test(claim_that_never_arrived_is_unknown_and_may_be_made_again)},
    {ON_ALL, cmocka_unit_test(record_whose_answer_is_lost_is_known_to_be_written)},
    {ON_FILES,
     cmocka_unit_test(late_creation_leaves_one_instance)}, /* rbd: the half-made ones of test-rbd */
    {ON_FILES, cmocka_unit_test(removal_whose_answer_is_lost_is_whole)},
    {ON_NFS, cmocka_unit_test(fence_without_an_answer_costs_the_epoch)},
    {ON_NFS, cmocka_unit_test(late_grant_gives_nothing_after_the_next_fence)},
    {ON_NFS, cmocka_unit_test(requests_that_arrive_twice_are_done_once)},
    {ON_NFS, cmocka_unit_test(silence_ends_by_the_time_limit)},
    {ON_RBD, cmocka_unit_test(stopped_osd_ends_calls_by_the_time_limit)},
    /* the memory engine has no late changes */
    {ON_FILES | ON_RBD, cmocka_unit_test(late_claim_cannot_win_against_one_that_was_made_since)},
    {ON_FILES | ON_RBD, cmocka_unit_test(late_claim_of_mine_is_mine_when_i_look_again)},
    {ON_FILES | ON_RBD, cmocka_unit_test(late_record_cannot_overwrite_what_was_written_since)},
};
const size_t n_lost_tests = ARRAY_SIZE(lost_tests);
