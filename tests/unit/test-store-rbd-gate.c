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
#include "tests/store/fake-rados.h"

/*
 * The gate, the fence and the claim on RBD: what is asked of the cluster, in which order, and what stays
 * written down. tests/store/fake-rados.c is the cluster; the real one is in tests/store.
 */
#define VM "vm"
#define START "aaaaaaaa-0000-4000-8000-000000000001"
#define OLD "aaaaaaaa-0000-4000-8000-000000000002"
#define EPOCH(n) "000000000000000" #n
#define RAISED(n, start) EPOCH(n) " " start
#define CLIENT(epoch, start, host) EPOCH(epoch) " " start " - " host " boot view board"

static const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};

static int begin(void **state)
{
        fake_rados = (struct fake_rados){0};
        fake_set("epoch", EPOCH(1));
        fake_image(VM ".e2.h2", "image-1");
        fake_rados.log[0] = '\0';
        return 0;
}

static struct start start_of(const char *id)
{
        struct start s = {0};

        strcpy(s.id, id);
        return s;
}

static int fence(uint64_t epoch, unsigned host, const struct start *start)
{
        const struct lease mine = {epoch, host};
        struct err err = {0};

        return rbd_lease_fence(fake_store(), VM, &mine, start, &disk, 1, &err);
}

static int gate(uint64_t epoch, unsigned host, const struct start *start)
{
        const struct lease mine = {epoch, host};
        struct err err = {0};

        return rbd_lease_gate(fake_store(), VM, &mine, start, &disk, 1, &err);
}

/* Raise first, so that nobody registers any more; then the blocklist; then the map; only then the entry. */
static void a_fence_raises_blocklists_waits_and_then_forgets(void **state)
{
        const struct start s = start_of(START);

        fake_set("client.10.0.0.1:0/7", CLIENT(1, OLD, "1"));
        assert_int_equal(fence(2, 2, &s), 0);
        assert_string_equal(fake_rados.log,
                            "set:epoch blocklist:10.0.0.1:0/7:630720000 map rm:client. set:fenced. ");
        assert_string_equal(fake_get("epoch"), RAISED(2, START));
        assert_null(fake_get("client.10.0.0.1:0/7"));
        assert_string_equal(fake_get("fenced.10.0.0.1:0/7"), CLIENT(1, OLD, "1"));
        fake_rados.log[0] = '\0';
        assert_int_equal(fence(2, 2, &s), 0); /* asked again: nobody is left */
        assert_null(strstr(fake_rados.log, "blocklist"));
        assert_null(strstr(fake_rados.log, "rm:"));
}

static void a_client_stays_recorded_until_its_fence_is_in_force(void **state)
{
        const struct start s = start_of(START);

        fake_set("client.10.0.0.1:0/7", CLIENT(1, OLD, "1"));
        fake_rados.map_answer = -ETIMEDOUT;
        assert_int_equal(fence(2, 2, &s), -ETIMEDOUT);
        assert_non_null(fake_get("client.10.0.0.1:0/7"));
        fake_rados.map_answer = 0;
        fake_rados.blocklist_answer = -ETIMEDOUT;
        assert_int_equal(fence(2, 2, &s), -ETIMEDOUT);
        assert_non_null(fake_get("client.10.0.0.1:0/7"));
        fake_rados.blocklist_answer = 0;
        assert_int_equal(fence(2, 2, &s), 0);
        assert_null(fake_get("client.10.0.0.1:0/7"));
}

static void all_of_many_clients_are_fenced(void **state)
{
        const struct start s = start_of(START);
        char key[40];

        for (unsigned i = 0; i < 20; i++) { /* more than one batch */
                snprintf(key, sizeof(key), "client.10.0.0.1:0/%u", 100 + i);
                fake_set(key, CLIENT(1, OLD, "1"));
        }
        fake_rados.blocklist_refused = "10.0.0.1:0/103"; /* in the first batch, of two */
        assert_int_equal(fence(2, 2, &s), -EIO);
        assert_non_null(fake_get("client.10.0.0.1:0/103"));
        fake_rados.blocklist_refused = NULL;
        fake_rados.log[0] = '\0';
        assert_int_equal(fence(2, 2, &s), 0);
        for (unsigned i = 0; i < 20; i++) {
                snprintf(key, sizeof(key), "blocklist:10.0.0.1:0/%u:", 100 + i);
                assert_non_null(strstr(fake_rados.log, key));
                snprintf(key, sizeof(key), "client.10.0.0.1:0/%u", 100 + i);
                assert_null(fake_get(key));
        }
        assert_ptr_equal(strstr(fake_rados.log, "map "), strstr(strstr(fake_rados.log, "0/119"), "map "));
}

/* Of one whose place is not known nobody can prove the death: it is fenced for good, and not noted. */
static void who_cannot_be_proved_dead_is_not_noted(void **state)
{
        const struct start s = start_of(START);

        fake_set("client.10.0.0.1:0/7", EPOCH(1) " " OLD " -");
        assert_int_equal(fence(2, 2, &s), 0);
        assert_null(fake_get("client.10.0.0.1:0/7"));
        assert_null(fake_get("fenced.10.0.0.1:0/7"));
}

static void a_source_that_runs_on_is_not_fenced_by_itself(void **state)
{
        const struct start s = start_of(OLD);

        fake_set("client.10.0.0.2:0/7", CLIENT(1, OLD, "2"));
        fake_set("client.10.0.0.3:0/8", CLIENT(1, START, "3"));
        assert_int_equal(fence(2, 2, &s), 0);
        assert_non_null(fake_get("client.10.0.0.2:0/7"));
        assert_null(strstr(fake_rados.log, "10.0.0.2"));
        assert_non_null(strstr(fake_rados.log, "blocklist:10.0.0.3"));
}

/* At a commit its vCPUs stand and its gate is shut; everybody else is fenced, and the next fence meets it. */
static void a_commit_spares_its_source_and_nobody_else(void **state)
{
        struct gate_client clients[] = {{.start = OLD, .epoch = 5}, {.start = "x", .epoch = 4}};
        struct gate g = {.clients = clients, .n_clients = 2};
        struct start s = start_of(START);

        assert_false(fence_spares(&g, &clients[0], &s)); /* an ordinary start */
        s.gid = 7;
        assert_true(fence_spares(&g, &clients[0], &s));
        assert_false(fence_spares(&g, &clients[1], &s));
        strcpy(clients[1].start, START); /* registered: it runs, and now the source is fenced like all */
        assert_false(fence_spares(&g, &clients[0], &s));
        assert_true(fence_spares(&g, &clients[1], &s));
}

static void who_comes_late_is_refused(void **state)
{
        const struct start s = start_of(START);

        fake_set("epoch", EPOCH(3));
        fake_rados.log[0] = '\0';
        assert_int_equal(fence(2, 2, &s), -ESTALE);
        assert_string_equal(fake_rados.log, "");
        assert_string_equal(fake_get("epoch"), EPOCH(3));
        assert_int_equal(fence(3, 2, &s), -ESTALE); /* the name is another one */
        fake_open("image-1", "10.0.0.2:0/9");
        assert_int_equal(gate(2, 2, &s), -EACCES);
        assert_int_equal(gate(3, 2, &s), -EACCES);
        assert_null(fake_get("client.10.0.0.2:0/9"));
}

static void register_late(void)
{
        fake_set("client.10.0.0.1:0/8", CLIENT(1, OLD, "1"));
}

/* Somebody registers between the look and the raise: the raise is repeated, and sees him. */
static void who_registers_in_between_is_fenced(void **state)
{
        const struct start s = start_of(START);

        fake_rados.before_operate = register_late;
        assert_int_equal(fence(2, 2, &s), 0);
        assert_non_null(strstr(fake_rados.log, "blocklist:10.0.0.1:0/8:630720000 map rm:client."));
        assert_null(fake_get("client.10.0.0.1:0/8"));
}

static void the_gate_registers_who_has_the_disk_open(void **state)
{
        const struct start s = start_of(START), old = start_of(OLD);

        assert_int_equal(gate(1, 2, &s), -EACCES); /* not my name */
        fake_set("epoch", EPOCH(2));
        assert_int_equal(gate(2, 2, &s), -EACCES); /* nobody has it open */
        fake_open("image-1", "10.0.0.2:0/1");      /* this hostd itself, which does not count */
        assert_int_equal(gate(2, 2, &s), -EACCES);
        fake_open("image-1", "10.0.0.2:0/9");
        assert_int_equal(gate(2, 2, &s), 0);
        assert_string_equal(fake_get("client.10.0.0.2:0/9"), CLIENT(2, START, "2"));
        assert_string_equal(fake_get("epoch"), RAISED(2, START)); /* an older version had raised it */
        assert_null(fake_get("client.10.0.0.2:0/1"));
        assert_int_equal(gate(2, 2, &s), 0);
        assert_string_equal(fake_get("client.10.0.0.2:0/9"), CLIENT(2, START, "2"));
        assert_int_equal(gate(2, 2, &old), -EACCES); /* two starts at one epoch: it is the first one's */
        assert_string_equal(fake_get("client.10.0.0.2:0/9"), CLIENT(2, START, "2"));
}

static void of_two_clients_nobody_can_say_which_is_the_qemus(void **state)
{
        const struct start s = start_of(START);

        fake_set("epoch", RAISED(2, START));
        fake_open("image-1", "10.0.0.2:0/9");
        fake_open("image-1", "10.0.0.2:0/10");
        assert_int_equal(gate(2, 2, &s), 0);
        assert_string_equal(fake_get("client.10.0.0.2:0/9"), EPOCH(2) " " START " -");
        assert_string_equal(fake_get("client.10.0.0.2:0/10"), EPOCH(2) " " START " -");
}

static void lift(int answer, int want)
{
        struct fenced_client c = {.address = "10.0.0.1:0/7", .start = OLD, .host = 1};
        struct err err = {0};

        fake_rados.command_answer = answer;
        assert_int_equal(rbd_lease_lift(fake_store(), VM, &c, &err), want);
}

static void the_note_goes_after_the_entry(void **state)
{
        fake_set("fenced.10.0.0.1:0/7", CLIENT(1, OLD, "1"));
        fake_rados.log[0] = '\0';
        lift(-EACCES, -EPERM);
        lift(-ETIMEDOUT, -ETIMEDOUT);
        assert_non_null(fake_get("fenced.10.0.0.1:0/7"));
        fake_rados.log[0] = '\0';
        lift(-ENOENT, 0); /* not there any more */
        assert_string_equal(fake_rados.log, "command rm:fenced. ");
        assert_non_null(strstr(fake_rados.command, "\"10.0.0.1:0/7\""));
        assert_null(fake_get("fenced.10.0.0.1:0/7"));
        fake_rados.log[0] = '\0';
        lift(0, 0);
        assert_string_equal(fake_rados.log, "");                /* nothing to do */
        fake_set("fenced.10.0.0.1:0/7", CLIENT(1, START, "1")); /* another QEMU's by now */
        fake_rados.log[0] = '\0';
        lift(0, 0);
        assert_string_equal(fake_rados.log, "");
}

static int claim(uint64_t epoch, unsigned host, unsigned me, bool again, struct lease *ret)
{
        const struct lease from = {epoch, host};
        struct err err = {0};

        return rbd_leases.claim(fake_store(), VM, &from, me, again, ret, &err);
}

static void a_claim_renames_and_knows_its_own_win(void **state)
{
        struct lease l = {0};

        assert_int_equal(claim(2, 2, 3, false, &l), 0);
        assert_true(l.epoch == 3 && l.host == 3);
        assert_int_equal(claim(2, 2, 4, true, &l), -ESTALE);
        assert_int_equal(claim(2, 2, 3, false, &l), -ESTALE); /* another host may have this number */
        l = (struct lease){0};
        assert_int_equal(claim(2, 2, 3, true, &l), 0);
        assert_true(l.epoch == 3 && l.host == 3);
        assert_int_equal(claim(3, 3, 3, false, &l), 0);
        assert_true(l.epoch == 4 && l.host == 3);
        fake_rados.n_images = 0;
        assert_int_equal(claim(4, 3, 3, false, &l), -ESTALE);
}

static int lost(const char *old, const char *new)
{
        return -ETIMEDOUT;
}

static int lost_and_done(const char *old, const char *new)
{
        snprintf(fake_rados.image[0].name, POOL_NAME_MAX, "%s", new);
        return -ETIMEDOUT;
}

static int done_by_a_twin(const char *old, const char *new)
{
        snprintf(fake_rados.image[0].name, POOL_NAME_MAX, "%s", new);
        return -ENOENT;
}

static int first_occupied(const char *old, const char *new)
{
        return strstr(new, ".e3.") ? 1 : 0;
}

static int always_occupied(const char *old, const char *new)
{
        return 1;
}

static void a_claim_without_an_answer_is_unknown(void **state)
{
        struct lease l = {0};

        fake_rados.rename = lost;
        assert_int_equal(claim(2, 2, 3, false, &l), -ETIMEDOUT);
        assert_int_equal(l.epoch, 0);
        fake_rados.rename = done_by_a_twin;
        assert_int_equal(claim(2, 2, 3, false, &l), -ESTALE);
        assert_int_equal(l.epoch, 0);
        begin(state);
        fake_rados.rename = lost_and_done; /* nobody else's answer was "not there" */
        assert_int_equal(claim(2, 2, 3, false, &l), 0);
        assert_int_equal(l.epoch, 3);
        begin(state);
        fake_rados.rename = first_occupied; /* what a crash left: on to the next epoch */
        assert_int_equal(claim(2, 2, 3, false, &l), 0);
        assert_int_equal(l.epoch, 4);
        fake_rados.rename = always_occupied;
        assert_int_equal(claim(4, 3, 3, false, &l), -EIO);
}

static void disks_that_are_not_made_are_claimed_by_nobody(void **state)
{
        struct lease l = {0};
        struct err err = {0};

        strcpy(fake_rados.image[0].name, VM ".e0.h0");
        assert_int_equal(rbd_leases.find(fake_store(), VM, &l, &err), 0);
        fake_rados.n = 0;
        fake_set("making", "nonce");
        assert_int_equal(rbd_leases.find(fake_store(), VM, &l, &err), -ENOENT);
        assert_int_equal(claim(0, 0, 3, false, &l), -ESTALE);
        fake_set("epoch", EPOCH(0));
        assert_int_equal(claim(0, 0, 3, false, &l), 0);
        assert_int_equal(l.epoch, 1);
}

static int commit(struct start *start, struct lease *ret)
{
        const struct start source = start_of(OLD);
        const struct commit_claim c = {.from = {2, 2}, .host = 3, .last = &source, .start = start};
        struct err err = {0};

        return rbd_lease_commit(fake_store(), VM, &c, &disk, 1, ret, &err);
}

/* The source is spared: one rename, one operation. */
static void a_commit_raises_and_registers_at_once(void **state)
{
        struct start s = start_of(START);
        struct lease l = {0};

        s.gid = 7;
        fake_set("epoch", EPOCH(2));
        fake_set("client.10.0.0.1:0/7", CLIENT(2, OLD, "2"));
        fake_open("image-1", "10.0.0.2:0/9");
        fake_rados.log[0] = '\0';
        assert_int_equal(commit(&s, &l), 0);
        assert_true(l.epoch == 3 && l.host == 3);
        assert_string_equal(fake_rados.log, "rename set:epoch set:client. ");
        assert_string_equal(fake_get("epoch"), RAISED(3, START));
        assert_string_equal(fake_get("client.10.0.0.2:0/9"), CLIENT(3, START, "3"));
        assert_non_null(fake_get("client.10.0.0.1:0/7"));
}

/* One that is not the source has to be fenced before anything is registered. */
static void a_commit_fences_who_is_not_its_source(void **state)
{
        struct start s = start_of(START);
        struct lease l = {0};

        s.gid = 7;
        fake_set("epoch", EPOCH(2));
        fake_set("client.10.0.0.1:0/7", CLIENT(2, OLD, "2"));
        fake_set("client.10.0.0.4:0/4", CLIENT(1, "aaaaaaaa-0000-4000-8000-000000000009", "4"));
        fake_open("image-1", "10.0.0.2:0/9");
        fake_rados.log[0] = '\0';
        assert_int_equal(commit(&s, &l), 0);
        assert_string_equal(
            fake_rados.log,
            "rename set:epoch blocklist:10.0.0.4:0/4:630720000 map rm:client. set:fenced. set:client. ");
}

static void a_commit_with_nobody_there_lets_nobody_through(void **state)
{
        struct start s = start_of(START);
        struct lease l = {0};

        s.gid = 7;
        fake_set("epoch", EPOCH(2));
        assert_int_equal(commit(&s, &l), -EACCES);
        assert_int_equal(l.epoch, 0);
        assert_string_equal(fake_get("epoch"), EPOCH(2));
}

int main(void)
{
#define test(f) cmocka_unit_test_setup(f, begin)
        const struct CMUnitTest tests[] = {
            test(a_fence_raises_blocklists_waits_and_then_forgets),
            test(a_client_stays_recorded_until_its_fence_is_in_force),
            test(all_of_many_clients_are_fenced),
            test(who_cannot_be_proved_dead_is_not_noted),
            test(a_source_that_runs_on_is_not_fenced_by_itself),
            test(a_commit_spares_its_source_and_nobody_else),
            test(who_comes_late_is_refused),
            test(who_registers_in_between_is_fenced),
            test(the_gate_registers_who_has_the_disk_open),
            test(of_two_clients_nobody_can_say_which_is_the_qemus),
            test(the_note_goes_after_the_entry),
            test(a_claim_renames_and_knows_its_own_win),
            test(a_claim_without_an_answer_is_unknown),
            test(disks_that_are_not_made_are_claimed_by_nobody),
            test(a_commit_raises_and_registers_at_once),
            test(a_commit_fences_who_is_not_its_source),
            test(a_commit_with_nobody_there_lets_nobody_through),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
