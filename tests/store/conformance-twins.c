/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "migrate/start.h"

/* Two hosts with one number, neither of which knows of the other: docs/ownership.md, "Who a host is". */

static bool on(struct suite *s, const char *engine)
{
        return streq(store_engine(s->store), engine);
}

static void of_one_number_one_claims(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {}, two = {};
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        assert_ok(lease_claim(s->store, id, &(struct lease){}, 4, false, &one, &err));
        if (!faults_on()) /* else the suite takes the new name for its own, as after a lost answer */
                assert_fails(-ESTALE, lease_claim(s->second, id, &(struct lease){}, 4, false, &two, &err));
        /* It goes on from what it sees. */
        assert_ok(lease_claim(s->second, id, &one, 4, false, &two, &err));
        assert_true(two.epoch == 2 && two.host == 4);
        assert_fails(-ESTALE, lease_claim(s->store, id, &(struct lease){}, 4, false, &one, &err));
}

#define EPOCHS 12
#define LOOKS 2000

struct twins {
        char id[UUID_LEN + 1];
        pthread_barrier_t begin;
        unsigned claimed[EPOCHS + 1], may_run[EPOCHS + 1]; /* by epoch */
};

struct twin {
        struct twins *both;
        struct store *store;
};

/* All that a start is, but its QEMU: claim, fence, gate, and the record by compare-and-swap. */
static void twin_start(const struct twin *t, const struct lease *now, uint64_t version, const char *record)
{
        char stored[UUID_LEN + 1] = "", text[80];
        unsigned long long stored_epoch = 0;
        struct start_change change;
        struct lease mine = {};
        struct start start;
        struct err err = {};

        sscanf(record, "%36s %llu", stored, &stored_epoch);
        if (lease_claim(t->store, t->both->id, now, 1, false, &mine, &err) < 0)
                return;
        __atomic_add_fetch(&t->both->claimed[mine.epoch], 1, __ATOMIC_SEQ_CST);
        start_init(&start, t->both->id, mine.epoch, NULL, NULL, 0);
        if (lease_fence(t->store, t->both->id, &mine, &start, &plain_disk, 1, &err) < 0)
                return;
        if (!streq(store_engine(t->store), "rbd") && /* that wants a QEMU which has the disk open */
            lease_gate(t->store, t->both->id, &mine, &start, &plain_disk, 1, &err) < 0)
                return;
        change = (struct start_change){
            .stored = stored, .stored_epoch = stored_epoch, .start = start.id, .epoch = mine.epoch};
        snprintf(text, sizeof(text), "%s %llu", start.id, (unsigned long long)mine.epoch);
        if (start_follows(&change) &&
            record_put(t->store, RECORD_INSTANCE, t->both->id, version, text, NULL, &err) == 0)
                __atomic_add_fetch(&t->both->may_run[mine.epoch], 1, __ATOMIC_SEQ_CST);
}

static void *twin_run(void *arg)
{
        const struct twin *t = arg;

        pthread_barrier_wait(&t->both->begin);
        for (int i = 0; i < LOOKS; i++) {
                _cleanup_(freep) char *record = NULL;
                struct lease now = {};
                struct err err = {};
                uint64_t version;

                if (record_get(t->store, RECORD_INSTANCE, t->both->id, &record, &version, &err) < 0 ||
                    lease_find(t->store, t->both->id, &now, &err) < 0)
                        continue; /* a fault */
                if (now.epoch >= EPOCHS)
                        break;
                twin_start(t, &now, version, record);
        }
        return NULL;
}

/* Whatever answers get lost: at each epoch one of them may let a guest run, at most. */
static void at_one_epoch_one_twin_may_run(void **state)
{
        struct suite *s = suite_of(state);
        struct twins both = {};
        struct twin twin[2] = {{&both, s->store}, {&both, s->second}};
        struct lease last = {};
        pthread_t thread[2];
        unsigned ran = 0;
        struct err err;

        uuid_random(both.id);
        disks_make(s->store, both.id, &plain_disk, 1);
        assert_ok(record_put(s->store, RECORD_INSTANCE, both.id, 0, "- 0", NULL, &err));
        pthread_barrier_init(&both.begin, NULL, 2);
        for (int i = 0; i < 2; i++) { /* the engine's own answers: hostd does not ask again, it looks */
                patient_take_out(twin[i].store);
                pthread_create(&thread[i], NULL, twin_run, &twin[i]);
        }
        for (int i = 0; i < 2; i++)
                pthread_join(thread[i], NULL);
        if (faults_on())
                patient_put_in(s->store);
        if (faults_on() && s->second != s->store)
                patient_put_in(s->second);
        pthread_barrier_destroy(&both.begin);
        assert_ok(lease_find(s->store, both.id, &last, &err));
        assert_int_equal(last.epoch, EPOCHS);
        for (unsigned e = 1; e <= EPOCHS; e++) {
                assert_true(both.may_run[e] <= 1);
                ran += both.may_run[e];
                if (!faults_on())
                        assert_int_equal(both.claimed[e], 1);
        }
        assert_true(faults_on() || ran > 0);
}

const struct engine_test twin_tests[] = {
    {ON_ALL, cmocka_unit_test(of_one_number_one_claims)},
    {ON_ALL, cmocka_unit_test(at_one_epoch_one_twin_may_run)},
};
const size_t n_twin_tests = ARRAY_SIZE(twin_tests);

/* --- with real QEMUs */

static struct qemu *must_open(const struct attach *a)
{
        _cleanup_(freep) char *why = NULL;
        struct qemu *q = qemu_open(a, &why);

        if (!q)
                fail_msg("QEMU cannot open %s: %s", a->path, why);
        return q;
}

static void claim_and_fence(struct store *s, const char *id, const struct lease *from, unsigned host,
                            struct lease *ret, struct start *ret_start, struct attach *ret_attach)
{
        struct err err;

        assert_ok(lease_claim(s, id, from, host, false, ret, &err));
        start_init(ret_start, id, ret->epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s, id, ret, ret_start, &plain_disk, 1, &err));
        assert_ok(lease_attach(s, id, ret, ret_start, &plain_disk, 1, ret_attach, &err));
}

/*
 * P's guest runs. Its twin takes the disk, as if it were its own, and writes. P takes the twin's epoch for
 * one that a hostd before it has claimed for its guest, and claims the next.
 */
static void a_source_does_not_run_on_over_its_twin(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {}, two = {}, three = {};
        struct start p, twin;
        struct commit_claim c = {.host = 1, .last = &p, .start = &p};
        struct attach a = {};
        struct qemu *mine, *other = NULL;
        char id[UUID_LEN + 1];
        struct err err = {};
        int r;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        claim_and_fence(s->store, id, &(struct lease){}, 1, &one, &p, &a);
        mine = must_open(&a);
        assert_ok(lease_gate(s->store, id, &one, &p, &plain_disk, 1, &err));
        assert_int_equal(qemu_write(mine, 0x11, 0), 0);
        claim_and_fence(s->second, id, &one, 1, &two, &twin, &a);
        if (s->locks) {
                _cleanup_(freep) char *why = NULL;

                assert_null(qemu_open(&a, &why)); /* the twin's never runs, so P's memory stays good */
        } else {
                other = must_open(&a);
                assert_ok(lease_gate(s->second, id, &two, &twin, &plain_disk, 1, &err));
                assert_int_equal(qemu_write(other, 0x22, 0), 0);
        }
        c.from = two;
        r = lease_commit(s->store, id, &c, &plain_disk, 1, &three, &err);
        if (on(s, "nfs")) {
                assert_int_equal(r, -ESTALE);
                assert_int_equal(qemu_write(other, 0x23, 4096), 0);
        }
        if (s->locks)
                assert_int_equal(r, 0);
        assert_int_equal(qemu_write(mine, 0x66, 0), s->locks ? 0 : -EACCES);
        qemu_kill(mine);
        if (other)
                qemu_kill(other);
}

/* B has arrived from A, and its hostd died over the commit. The winner of that epoch was B's twin. */
static void an_arrival_that_is_asked_again_loses_to_its_twin(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {}, two = {}, again = {};
        struct start a, b, twin;
        struct commit_claim c = {.host = 2, .again = true, .last = &a, .start = &b};
        struct attach at = {}, at_b = {};
        struct qemu *source, *arrived = NULL, *other;
        char id[UUID_LEN + 1];
        struct err err = {};
        int r;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        claim_and_fence(s->store, id, &(struct lease){}, 1, &one, &a, &at);
        source = must_open(&at);
        assert_ok(lease_gate(s->store, id, &one, &a, &plain_disk, 1, &err));
        start_init(&b, id, one.epoch, "attempt-twin", NULL, 0);
        assert_ok(lease_grant(s->store, id, &one, &b, &plain_disk, 1, &err));
        assert_ok(lease_attach(s->second, id, &one, &b, &plain_disk, 1, &at_b, &err));
        if (s->locks)
                qemu_kill(source); /* it has let go of the lock at the switchover */
        else
                arrived = must_open(&at_b);
        claim_and_fence(s->store, id, &one, 2, &two, &twin, &at);
        other = must_open(&at);
        assert_ok(lease_gate(s->store, id, &two, &twin, &plain_disk, 1, &err));
        assert_int_equal(qemu_write(other, 0x33, 0), 0);
        c.from = one;
        r = lease_commit(s->second, id, &c, &plain_disk, 1, &again, &err);
        /* The engine says no; where it has no fence but QEMU's lock, the record does. */
        assert_int_equal(r, s->locks ? 0 : -ESTALE);
        assert_false(start_follows(&(struct start_change){.stored = twin.id,
                                                          .stored_epoch = two.epoch,
                                                          .start = b.id,
                                                          .epoch = two.epoch,
                                                          .memory = a.id}));
        assert_int_equal(qemu_write(other, 0x34, 4096), 0);
        assert_int_equal(qemu_verify(other, 0x33, 0), 0);
        qemu_kill(other);
        if (arrived)
                qemu_kill(arrived);
        if (!s->locks)
                qemu_kill(source);
}

/* By chance a start may draw the user that the disk belongs to: then the storage would not refuse that one.
 */
static void a_user_that_has_the_disk_is_no_new_one(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {}, two = {};
        struct start first, second;
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
        start_init(&first, id, one.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s->store, id, &one, &first, &plain_disk, 1, &err));
        assert_ok(lease_claim(s->second, id, &one, 1, false, &two, &err));
        start_init(&second, id, two.epoch, NULL, NULL, 0);
        if (on(s, "nfs") &&
            !faults_on()) { /* else the suite takes it for its own fence, as after a lost answer */
                second.uid = first.uid;
                assert_fails(-EEXIST, lease_fence(s->second, id, &two, &second, &plain_disk, 1, &err));
                start_init(&second, id, two.epoch, NULL, &first.uid, 1);
        }
        assert_ok(lease_fence(s->second, id, &two, &second, &plain_disk, 1, &err));
}

const struct engine_test twin_fence_tests[] = {
    {ON_SHARED, cmocka_unit_test(a_source_does_not_run_on_over_its_twin)},
    {ON_SHARED, cmocka_unit_test(an_arrival_that_is_asked_again_loses_to_its_twin)},
    {ON_SHARED, cmocka_unit_test(a_user_that_has_the_disk_is_no_new_one)},
};
const size_t n_twin_fence_tests = ARRAY_SIZE(twin_fence_tests);
