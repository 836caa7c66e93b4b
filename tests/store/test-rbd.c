/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only the rbd engine has: the gate, the blocklist, what crashes inside librbd's rename and clone leave
 * behind, and the rights of its users. Against a real cluster (STORE_URL, STORE_CEPH_CONF); the writer that
 * is fenced is a real QEMU. Host A lives at the client's own address, host B is given another
 * one.
 */
#include "tests/store/rbd-fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "common/clock.h"

static void test_qemu_is_refused_after_a_take_over(void **state)
{
        struct fixture *f = *state;
        struct start a, b;
        struct lease on_a, on_b;
        struct qemu *w;

        w = run_on_a(f, &on_a, &a);
        assert_int_equal(recorded(f), 1);
        ok(lease_claim(f->b, f->instance, &on_a, 2, false, &on_b, err));
        assert_int_equal(qemu_write(w, 0x22, 0), 0); /* the rename alone stops nobody */
        start_init(&b, f->instance, on_b.epoch, NULL, NULL, 0);
        ok(lease_fence(f->b, f->instance, &on_b, &b, f->disks, 2, err));
        assert_int_equal(qemu_write(w, 0x33, 0), -EACCES);
        assert_int_equal(qemu_write(w, 0x33, 8192), -EACCES);
        fails(-EACCES, lease_gate(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        assert_int_equal(recorded(f), 0);
        qemu_kill(w);

        /* What the old one was told is written is there, what was refused is not. */
        w = qemu_start(f, &on_b, &b, 0);
        assert_int_equal(qemu_verify(w, 0x22, 0), 0);
        assert_int_equal(qemu_verify(w, 0, 8192), 0);
        qemu_close(w);
}

/* A client that registered late, after the raise, is refused; one that is not there at all is refused. */
static void test_the_gate_wants_an_open_image_at_its_own_epoch(void **state)
{
        struct fixture *f = *state;
        struct start a;
        struct lease on_a = {0}, on_b;
        char other[UUID_LEN + 1];
        struct qemu *w;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        ok(lease_claim(f->a, f->instance, &on_a, 1, false, &on_a, err));
        start_init(&a, f->instance, on_a.epoch, NULL, NULL, 0);
        ok(lease_fence(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        fails(-EACCES, lease_gate(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        w = qemu_start(f, &on_a, &a, 0);
        /* It runs on another host than B. */
        fails(-EACCES, lease_gate(f->b, f->instance, &on_a, &a, f->disks, 2, err));
        /* The gate is raised, though the name has not moved: a fence that ran ahead of A's look at the name.
         */
        _cleanup_(gate_done) struct gate gate = {0};
        uuid_random(other);
        ok(gate_raise(f->io, f->instance, on_a.epoch + 1, other, &gate, err));
        fails(-EACCES, lease_gate(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        assert_int_equal(recorded(f), 0);
        /* And it never goes down again. */
        fails(-ESTALE, lease_fence(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        ok(lease_claim(f->b, f->instance, &on_a, 2, false, &on_b, err));
        qemu_close(w);
}

static void test_a_commit_spares_the_stopped_source_until_the_next_fence(void **state)
{
        struct fixture *f = *state;
        struct start a, b, c;
        struct lease on_a, on_b, on_c;
        struct qemu *src, *dst;

        src = run_on_a(f, &on_a, &a);
        dst = arrive_from_a(f, &on_a, &b);
        ok(lease_claim(f->a, f->instance, &on_a, 2, false, &on_b, err));
        ok(lease_fence(f->a, f->instance, &on_b, &b, f->disks, 2, err));
        assert_int_equal(recorded(f), 1);
        ok(lease_gate(f->a, f->instance, &on_b, &b, f->disks, 2, err));
        assert_int_equal(recorded(f), 2);
        assert_int_equal(qemu_write(dst, 0x44, 0), 0);
        /* The next take-over meets both. */
        ok(lease_claim(f->b, f->instance, &on_b, 3, false, &on_c, err));
        start_init(&c, f->instance, on_c.epoch, NULL, NULL, 0);
        ok(lease_fence(f->b, f->instance, &on_c, &c, f->disks, 2, err));
        assert_int_equal(qemu_write(src, 0x55, 0), -EACCES);
        assert_int_equal(qemu_write(dst, 0x55, 0), -EACCES);
        assert_int_equal(recorded(f), 0);
        qemu_kill(src);
        qemu_kill(dst);
}

static void test_a_source_that_runs_on_is_not_fenced_by_itself(void **state)
{
        struct fixture *f = *state;
        struct start a;
        struct lease on_a, again;
        struct qemu *w;

        w = run_on_a(f, &on_a, &a);
        ok(lease_claim(f->a, f->instance, &on_a, 1, false, &again, err));
        ok(lease_fence(f->a, f->instance, &again, &a, f->disks, 2, err));
        ok(lease_gate(f->a, f->instance, &again, &a, f->disks, 2, err));
        assert_int_equal(qemu_write(w, 0x66, 0), 0);
        assert_int_equal(recorded(f), 1);
        qemu_close(w);
}

static void test_a_clean_end_clears_the_record_and_a_kill_does_not(void **state)
{
        struct fixture *f = *state;
        struct start a, b;
        struct lease lease;
        struct qemu *w;

        w = run_on_a(f, &lease, &a);
        start_forget(f->a, f->instance, &a); /* too early: it still has the image open */
        assert_int_equal(recorded(f), 1);
        qemu_close(w);
        start_forget(f->a, f->instance, &a);
        assert_int_equal(recorded(f), 0);

        ok(lease_claim(f->a, f->instance, &lease, 1, false, &lease, err));
        start_init(&b, f->instance, lease.epoch, NULL, NULL, 0);
        ok(lease_fence(f->a, f->instance, &lease, &b, f->disks, 2, err));
        w = qemu_start(f, &lease, &b, 0);
        ok(lease_gate(f->a, f->instance, &lease, &b, f->disks, 2, err));
        qemu_kill(w);
        start_forget(f->a, f->instance, &b);
        assert_int_equal(recorded(f), 1);
        /* The disks of a QEMU that was killed a moment ago can be removed all the same. */
        ok(lease_remove(f->a, f->instance, &lease, f->disks, 2, err));
        fails(-ENOENT, lease_find(f->a, f->instance, &lease, err));
}

static void test_a_claim_steps_over_a_name_that_a_crash_left_occupied(void **state)
{
        struct fixture *f = *state;
        struct lease got, from = {0}, next = {.epoch = 1, .host = 1};
        char name[LEASE_NAME_MAX + 1], oid[POOL_NAME_MAX];

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        lease_name_format(f->instance, &next, name);
        snprintf(oid, sizeof oid, "rbd_id.%s", name);
        assert_int_equal(rados_write_full(f->io, oid, "\4\0\0\0dead", 8), 0);
        ok(lease_claim(f->a, f->instance, &from, 1, false, &got, err));
        assert_int_equal(got.epoch, 2);
        assert_int_equal(got.host, 1);
        fails(-ESTALE, lease_claim(f->b, f->instance, &from, 2, false, &next, err));
        /* The loser left nothing behind that would occupy its next try. */
        ok(lease_claim(f->b, f->instance, &got, 2, false, &got, err));
        assert_int_equal(got.epoch, 3);
        (void)rados_remove(f->io, oid);
}

/* A rename whose every step was done, but whose reply was lost; and one that was cut off before its last
 * step. */
/* The directory says e1.h1, and nobody knows who renamed it: a hostd of mine that is dead, or another h1. */
static void test_a_claim_that_was_won_before_is_a_win_only_when_asked_again(void **state)
{
        struct fixture *f = *state;
        struct lease got, from = {0};
        struct lease first = {.epoch = 1, .host = 1};
        char oid[POOL_NAME_MAX], id[64], name[LEASE_NAME_MAX + 1], old[LEASE_NAME_MAX + 1];
        struct pool_op later = {0};
        bool occupied;
        int n;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        lease_name_format(f->instance, &from, old);
        lease_name_format(f->instance, &first, name);
        snprintf(oid, sizeof oid, "rbd_id.%s", old);
        n = rados_read(f->io, oid, id, sizeof id, 0);
        assert_true(n > 4);
        id[n] = '\0';
        assert_int_equal(disk_rename(f->io, id + 4, old, name, &occupied, &later), 0);
        pool_op_done(&later);
        assert_false(occupied);
        fails(-ESTALE, lease_claim(f->a, f->instance, &from, 1, false, &got, err));
        ok(lease_claim(f->a, f->instance, &from, 1, true, &got, err));
        assert_int_equal(got.epoch, 1);
        /* The old name still resolves; the directory has moved on. */
        assert_int_equal(rados_write_full(f->io, oid, id, (size_t)n), 0);
        fails(-ESTALE, lease_claim(f->b, f->instance, &from, 2, false, &got, err));
        fails(-ESTALE, lease_claim(f->a, f->instance, &from, 1, false, &got, err));
        ok(lease_claim(f->a, f->instance, &from, 1, true, &got, err));
        assert_int_equal(got.epoch, 1);
        ok(lease_find(f->b, f->instance, &got, err));
        assert_int_equal(got.epoch, 1);
        (void)rados_remove(f->io, oid);
}

static int count_lease(void *arg, const char *instance, const struct lease *lease)
{
        const struct fixture *f = arg;

        return streq(instance, f->instance) ? 77 : 0;
}

static void test_half_made_disks_do_not_exist_and_can_be_made_again(void **state)
{
        struct fixture *f = *state;
        struct lease lease = {0};
        char image[POOL_NAME_MAX];
        struct golden golden;

        /* As a crash leaves them: the images are there, nothing says that they are complete. */
        disk_image(f->instance, &lease, f->disks, 0, image);
        ok(golden_find(f->io, f->image, golden.name, &golden.size, err));
        ok(disk_make(f->io, image, &f->disks[0], &golden, err));
        fails(-ENOENT, lease_find(f->a, f->instance, &lease, err));
        fails(-ESTALE, lease_claim(f->a, f->instance, &lease, 1, false, &lease, err));
        ok(lease_list(f->a, count_lease, f, err));
        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        ok(lease_find(f->a, f->instance, &lease, err));
        assert_int_equal(lease_list(f->a, count_lease, f, NULL), 77);
        fails(-EEXIST, lease_create(f->b, f->instance, f->disks, 2, err));
}

/* Of a creation's first disk and of its second: the name is taken, and nothing else of it is there. */
static void test_a_name_without_a_disk_is_in_nobodys_way(void **state)
{
        struct fixture *f = *state;
        struct lease lease = {0};

        for (size_t i = 0; i < 2; i++) {
                char image[POOL_NAME_MAX];

                uuid_random(f->instance);
                disk_image(f->instance, &lease, f->disks, i, image);
                assert_int_equal(disk_name_mend(f->io, image, "5eed5eed5eed"), 0);
                ok(lease_create(f->a, f->instance, f->disks, 2, err));
                ok(lease_find(f->a, f->instance, &lease, err));
                ok(lease_claim(f->a, f->instance, &lease, 1, false, &lease, err));
                ok(lease_remove(f->a, f->instance, &lease, f->disks, 2, err));
                lease = (struct lease){0};
        }
}

static void test_a_user_without_the_right_to_blocklist_is_told_so(void **state)
{
        struct fixture *f = *state;
        struct store *weak = open_as("wherry-weak", NULL);
        struct err err = {0};

        assert_int_equal(store_selftest(f->a, &err), 1);
        assert_int_equal(store_selftest(weak, &err), 0);
        assert_non_null(strstr(err.text, "blocklist"));
        assert_non_null(strstr(err.text, "profile rbd"));
        store_close(weak);
}

static void test_a_host_cannot_reach_accounts(void **state)
{
        struct fixture *f = *state;
        struct store *host = open_as("wherry-host", NULL);
        _cleanup_(freep) char *text = NULL;
        uint64_t version, none;

        ok(record_put(f->a, RECORD_ACCOUNT, f->instance, 0, "{}", &version, err));
        fails(-EACCES, record_get(host, RECORD_ACCOUNT, f->instance, &text, &none, err));
        fails(-EACCES, record_put(host, RECORD_ACCOUNT, f->instance, version, "{\"x\":1}", &none, err));
        ok(record_put(host, RECORD_INSTANCE, f->instance, 0, "{}", &none, err));
        ok(record_put(host, RECORD_INSTANCE, f->instance, none, NULL, &none, err));
        ok(record_put(f->a, RECORD_ACCOUNT, f->instance, version, NULL, &version, err));
        assert_int_equal(store_selftest(host, NULL), 1);
        store_close(host);
}

/* Clones go through QEMU and back, of the size that was asked for, and what opens them is told where the
 * monitors are. */
static void test_attach_names_what_qemu_opens(void **state)
{
        struct fixture *f = *state;
        struct attach at[2];
        struct lease lease = {0};
        struct start start;
        struct qemu *w;

        start_init(&start, f->instance, 1, NULL, NULL, 0);
        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        ok(lease_attach(f->a, f->instance, &lease, &start, f->disks, 2, at, err));
        assert_int_equal(at[0].kind, ATTACH_RBD);
        assert_false(at[0].read_only);
        assert_true(at[1].read_only);
        assert_non_null(strstr(at[0].server, ":3300"));
        assert_non_null(strchr(at[0].path, '/'));
        w = qemu_start(f, &lease, &start, 0);
        assert_int_equal(qemu_verify(w, 0x5a, 4096), 0);
        assert_int_equal(qemu_verify(w, 0, 12 * MIB), 0);
        assert_int_equal(qemu_write(w, 0x77, 16 * MIB - 4096), 0);
        assert_true(qemu_write(w, 0x77, 16 * MIB) < 0);
        qemu_close(w);
        w = qemu_start(f, &lease, &start, 1);
        assert_int_equal(qemu_verify(w, 0x6b, 0), 0);
        qemu_close(w);
        fails(-EBUSY, volume_remove(f->a, f->image, err));
}

/* Only an administrator may; 0 takes the limit away. */
static void set_quota(const char *pool, uint64_t bytes)
{
        _cleanup_(freep) char *cmd = str_printf("{\"prefix\": \"osd pool set-quota\", \"pool\": \"%s\", "
                                                "\"field\": \"max_bytes\", \"val\": \"%llu\"}",
                                                pool, (unsigned long long)bytes);

        command_as_admin(cmd);
}

static int put_big(struct store *s, const char *id)
{
        _cleanup_(freep) char *text = malloc(100001);
        uint64_t version;
        int r;

        memset(text, 'y', 100000);
        text[100000] = '\0';
        r = record_put(s, RECORD_EVENT, id, 0, text, &version, NULL);
        return r < 0 ? r : record_put(s, RECORD_EVENT, id, version, NULL, &version, NULL);
}

/* The monitors notice a full pool, and one that is no longer full, with a delay of some seconds; so the
 * limit is met some time while an image is written, and its room comes back some time after it was given up.
 */
static void test_a_full_pool_is_an_error_and_not_a_hang(void **state)
{
        struct fixture *f = *state;
        _cleanup_(freep) uint8_t *block = malloc(MIB);
        char id[UUID_LEN + 1];
        const int64_t deadline = clock_ms() + 60000;
        struct volume *v = NULL;
        struct err why = {0};
        int r = 0;

        uuid_random(id);
        memset(block, 0xa5, MIB);
        assert_int_equal(put_big(f->a, id), 0); /* makes the object that this record lies in */
        set_quota(pool_of(f->a)->name, 64 * MIB);
        ok(volume_create(f->a, id, 4096 * MIB, &v, err));
        /* Slowly: a quick disk takes all of it before the monitors have looked once. */
        for (uint64_t i = 0; i < 4096 && r >= 0 && clock_ms() < deadline; i++) {
                r = volume_write(v, block, MIB, i * MIB, &why);
                usleep(20000);
        }
        assert_int_equal(r, -ENOSPC);
        /* Records that go into an object which is there already can still be written: they are no data to a
         * quota. */
        assert_int_equal(put_big(f->a, id), 0);
        assert_int_equal(lease_create(f->a, f->instance, f->disks, 2, &why), -ENOSPC);
        volume_close(v);
        fails(-ENOENT, volume_open(f->a, id, &v, err));
        /* The room of what was given up is there again, still under the same limit. */
        do
                r = lease_create(f->a, f->instance, f->disks, 2, &why);
        while (r == -ENOSPC && clock_ms() < deadline && usleep(200000) == 0);
        assert_int_equal(r, 0);
}

static int teardown_quota(void **state)
{
        const struct fixture *f = *state;

        set_quota(pool_of(f->a)->name, 0);
        return teardown(state);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
            with_fixture(test_qemu_is_refused_after_a_take_over),
            with_fixture(test_the_gate_wants_an_open_image_at_its_own_epoch),
            with_fixture(test_a_commit_spares_the_stopped_source_until_the_next_fence),
            with_fixture(test_a_source_that_runs_on_is_not_fenced_by_itself),
            with_fixture(test_a_clean_end_clears_the_record_and_a_kill_does_not),
            with_fixture(test_a_claim_steps_over_a_name_that_a_crash_left_occupied),
            with_fixture(test_a_claim_that_was_won_before_is_a_win_only_when_asked_again),
            with_fixture(test_half_made_disks_do_not_exist_and_can_be_made_again),
            with_fixture(test_a_name_without_a_disk_is_in_nobodys_way),
            with_fixture(test_a_user_without_the_right_to_blocklist_is_told_so),
            with_fixture(test_a_host_cannot_reach_accounts),
            with_fixture(test_attach_names_what_qemu_opens),
            cmocka_unit_test_setup_teardown(test_a_full_pool_is_an_error_and_not_a_hang, setup,
                                            teardown_quota),
        };

        signal(SIGPIPE, SIG_IGN);
        if (argc > 1)
                cmocka_set_test_filter(argv[1]); /* "test_a_claim*" */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
