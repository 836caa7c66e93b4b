/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/hostd-fixture.h"

/* The gate's answer: who is let run, what is written down before the yes, and who is ended with the no. */
#define ID fixture_id('a')
#define PID 4711

static struct gate_request request(const char *start)
{
        struct gate_request req = {
            .question = GATE_ACQUIRE, .pid = PID, .asked_ns = fixture.now_ms * 1000000};

        snprintf(req.lease.instance, sizeof(req.lease.instance), "%s", ID);
        snprintf(req.lease.start.id, sizeof(req.lease.start.id), "%s", start);
        return req;
}

#define START "aaaaaaaa-0000-4000-8000-000000000001"
#define OTHER "aaaaaaaa-0000-4000-8000-000000000002"
#define ATTEMPT "bbbbbbbb-0000-4000-8000-000000000001"

/* This host owns the disk at epoch 1 and starts a QEMU. */
static struct guest *starting(void)
{
        struct lease mine;
        struct guest *g;

        fixture_instance('a', "");
        mine = fixture_claim('a', 2);
        fixture_fence('a', &mine, START);
        g = fixture_guest('a');
        strcpy(g->starting.id, START);
        g->starting_epoch = 1;
        return g;
}

static int commit_answer; /* 0: the real one's */

int __real_lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                        const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err);
int __wrap_lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                        const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err);
int __wrap_lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                        const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err)
{
        return commit_answer ? err_set(err, commit_answer, "error %d", -commit_answer)
                             : __real_lease_commit(s, instance, c, disks, n_disks, ret, err);
}

static int ask(const struct gate_request *req)
{
        struct err err = {0};

        return guest_gate(&fixture.ctx, req, &err);
}

static void the_start_under_way_may_run_once_its_record_says_so(void **state)
{
        struct guest *g = starting();
        struct gate_request req = request(START);

        assert_int_equal(ask(&req), 0);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.id"), "\"" START "\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.epoch"), "1");
        assert_int_equal(g->known_pid, PID);
        assert_int_equal(g->gates, 0);
        assert_int_equal(g->gate_serial, 2);
        assert_int_equal(fixture.kills, 0);
        assert_int_equal(g->commit_ns, 0);
}

static void a_no_ends_the_qemu_and_wakes_its_guest(void **state)
{
        struct guest *g = starting();
        struct gate_request req = request(OTHER);

        g->wake = false;
        assert_int_equal(ask(&req), -EACCES);
        assert_int_equal(fixture.kills, 1);
        assert_int_equal(fixture.killed, PID);
        assert_true(g->wake);
        assert_int_equal(g->known_pid, 0);
        assert_int_equal(g->gates, 0);
        assert_string_equal(fixture.events, "gate-refused ");
        req.pid = 0; /* not known: nobody is ended for it */
        assert_int_equal(ask(&req), -EACCES);
        assert_int_equal(fixture.kills, 1);
        req.pid = PID;
        req.question = GATE_REGISTER; /* QEMU is not there yet */
        assert_int_equal(ask(&req), -EACCES);
        assert_int_equal(fixture.kills, 1);
        assert_int_equal(g->gate_serial, 4); /* of the two questions before vCPUs run */
        req.question = GATE_RELEASE;
        assert_int_equal(ask(&req), 0);
}

/* REGISTER comes before anything runs: it asks, and changes nothing. */
static void a_registration_writes_nothing_down(void **state)
{
        struct guest *g = starting();
        struct gate_request req = request(START);

        req.question = GATE_REGISTER;
        assert_int_equal(ask(&req), 0);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start"), "absent");
        assert_int_equal(g->known_pid, 0);
        assert_int_equal(g->gate_serial, 0);
}

/* The QEMU that was let run before may go on after a pause; another process with its start's id may not. */
static void only_the_very_process_that_ran_may_go_on(void **state)
{
        struct guest *g = starting();
        struct gate_request req = request(START);

        assert_int_equal(ask(&req), 0);
        g->starting.id[0] = '\0'; /* that start is over */
        fixture_set(RECORD_INSTANCE, ID, "restart", "7");
        fixture_set(RECORD_INSTANCE, ID, "status.state", "\"paused\"");
        assert_int_equal(ask(&req), 0); /* it goes on, which is no start: nothing is written */
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"paused\"");
        assert_string_not_equal(fixture_field(RECORD_INSTANCE, ID, "status.restart"), "7");
        req.pid = PID + 1; /* virsh create with a copy of its XML */
        assert_int_equal(ask(&req), -EACCES);
        assert_int_equal(fixture.kills, 0); /* the next look decides on it */
        req.pid = 0;
        g->known_pid = 0;
        assert_int_equal(ask(&req), -EACCES);
        req.pid = PID;
        assert_int_equal(ask(&req), -EACCES); /* nobody has adopted it */
        req.again = true;                     /* its hostd died while it asked */
        assert_int_equal(ask(&req), 0);
        assert_int_equal(g->known_pid, PID);
}

/* The name and the record agree, and the storage does not: its answer counts. */
static void what_the_storage_refuses_may_not_run(void **state)
{
        const struct lease mine = {1, 2};
        struct gate_request req = request(START);

        starting();
        fixture_fence('a', &mine, OTHER);
        assert_int_equal(ask(&req), -EACCES);
        assert_int_equal(fixture.kills, 1);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start"), "absent");
}

static void who_does_not_own_the_disk_may_not_run(void **state)
{
        struct gate_request req = request(START);

        starting();
        fixture_claim('a', 3);
        assert_int_equal(ask(&req), -EACCES);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start"), "absent");
        fixture_claim('a', 2); /* mine again, and this start is of an older epoch */
        assert_int_equal(ask(&req), -EACCES);
        assert_int_equal(fixture.kills, 2);
}

/* This host is the destination of a migration from 1. */
static struct gate_request arriving(void)
{
        struct gate_request req = request(START);
        char entry[512];

        snprintf(entry, sizeof(entry),
                 ",\"migration\":{\"attempt\":\"" ATTEMPT "\",\"source\":1,\"destination\":2,\"epoch\":1,"
                 "\"start\":{\"id\":\"" START "\",\"uid\":7,\"gid\":7}},"
                 "\"start\":{\"id\":\"" OTHER "\",\"epoch\":1}");
        fixture_instance('a', entry);
        fixture_claim('a', 1);
        strcpy(req.lease.attempt, ATTEMPT);
        req.lease.epoch = 1;
        return req;
}

static void expect_lease(uint64_t epoch, unsigned host)
{
        struct lease l;

        assert_int_equal(lease_find(fixture.ctx.store, ID, &l, NULL), 0);
        assert_int_equal(l.epoch, epoch);
        assert_int_equal(l.host, host);
}

static void an_arrival_is_a_claim(void **state)
{
        struct gate_request req = arriving();
        struct guest *g = fixture_guest('a');

        fixture.now_ms += 30;
        assert_int_equal(ask(&req), 0);
        expect_lease(2, 2);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.id"), "\"" START "\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.epoch"), "2");
        assert_int_equal(g->known_pid, PID);
        assert_int_equal(g->commit_ns, 30 * 1000000);
        assert_string_equal(fixture.woken, ""); /* there was a guest; it is not woken by a yes */
}

static void an_arrival_without_a_guest_makes_one(void **state)
{
        struct gate_request req = arriving();

        assert_int_equal(ask(&req), 0);
        assert_string_equal(fixture.woken, "a ");
}

static void an_arrival_of_another_attempt_or_start_is_none(void **state)
{
        struct gate_request req = arriving();

        strcpy(req.lease.attempt, OTHER);
        assert_int_equal(ask(&req), -EACCES);
        req = request("cccccccc-0000-4000-8000-000000000001");
        strcpy(req.lease.attempt, ATTEMPT);
        assert_int_equal(ask(&req), -EACCES);
        expect_lease(1, 1);
        req = request(START);
        strcpy(req.lease.attempt, ATTEMPT);
        fixture_claim('a', 1); /* the source runs on */
        assert_int_equal(ask(&req), -EACCES);
        expect_lease(2, 1);
        assert_int_equal(fixture.kills, 3);
}

/* Its hostd died after the claim and before the record: the driver asks again, and the claim is found. */
static void a_commit_that_was_cut_off_is_finished(void **state)
{
        struct gate_request req = arriving();

        fixture_claim('a', 2);
        assert_int_equal(ask(&req), -EACCES);
        req.again = true;
        assert_int_equal(ask(&req), 0);
        expect_lease(2, 2);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.epoch"), "2");
}

/* This host owns the disk at epoch 1, its QEMU ran, and the record's entry lets host 3 take the guest. */
static struct guest *source(void)
{
        struct guest *g;

        fixture_instance('a', ",\"migration\":{\"attempt\":\"" ATTEMPT
                              "\",\"source\":2,\"destination\":3,\"epoch\":1},"
                              "\"start\":{\"id\":\"" START "\",\"epoch\":1}");
        fixture_claim('a', 2);
        g = fixture_guest('a');
        g->known_pid = PID;
        return g;
}

/* The source of a migration that failed claims before it runs on, and the record says the new epoch. */
static void a_source_that_runs_on_claims_first(void **state)
{
        struct gate_request req = request(START);
        struct guest *g = source();

        assert_int_equal(ask(&req), 0);
        expect_lease(2, 2);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.epoch"), "2");
        assert_int_equal(g->commit_ns, 0);
        assert_int_equal(ask(&req), 0); /* at the new epoch the entry is void */
        expect_lease(2, 2);
}

/* The claim may have reached the storage, or not. The next look claims once more, with the QEMU as it stands. */
static void a_source_whose_claim_has_no_answer_stands(void **state)
{
        struct gate_request req = request(START);
        struct guest *g = source();

        g->wake = false;
        commit_answer = -ETIMEDOUT;
        assert_int_equal(ask(&req), -ETIMEDOUT);
        assert_int_equal(fixture.kills, 0);
        assert_true(g->wake);
        commit_answer = -ESTALE; /* the destination has won */
        assert_int_equal(ask(&req), -ESTALE);
        assert_int_equal(fixture.kills, 1);
        commit_answer = -EACCES; /* the storage knows it and says no: an answer, too */
        assert_int_equal(ask(&req), -EACCES);
        assert_int_equal(fixture.kills, 2);
        commit_answer = 0;
}

/* While the other machine has not claimed the disk, the QEMU there is the only one. */
static void on_a_host_that_was_replaced_what_stands_stays(void **state)
{
        struct guest *g = starting();
        struct gate_request req = request(START);

        assert_int_equal(ask(&req), 0);
        g->starting.id[0] = '\0';
        fixture.self.replaced = true;
        assert_int_equal(ask(&req), -EACCES);
        assert_int_equal(fixture.kills, 0);
        strcpy(g->starting.id, START); /* a start under way has not run yet */
        assert_int_equal(ask(&req), -EACCES);
        assert_int_equal(fixture.kills, 1);
}

static void without_a_record_or_a_disk_nothing_runs(void **state)
{
        struct gate_request req = request(START);

        assert_int_equal(ask(&req), -ENOENT);
        assert_int_equal(fixture.kills, 1);
}

/* What a start's phases took goes into the receipt of the failover that asked for it. */
static void a_failovers_start_has_its_receipt_with_the_yes(void **state)
{
        struct gate_request req = request(START);
        struct lease mine;
        struct guest *g;

        fixture_instance('a', ",\"placement\":{\"host\":2,\"epoch\":0,\"failover\":{\"from\":1,\"by\":3}}");
        mine = fixture_claim('a', 2);
        fixture_fence('a', &mine, START);
        g = fixture_guest('a');
        strcpy(g->starting.id, START);
        g->starting_epoch = 1;
        g->phases = (struct start_phases){.failover = true, .claim_ms = 5, .fence_ms = 6};
        assert_int_equal(ask(&req), 0);
        assert_string_not_equal(fixture_field(RECORD_INSTANCE, ID, "receipts"), "absent");
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, fixture_begin, fixture_end)
        const struct CMUnitTest tests[] = {
            test(the_start_under_way_may_run_once_its_record_says_so),
            test(a_no_ends_the_qemu_and_wakes_its_guest),
            test(a_registration_writes_nothing_down),
            test(only_the_very_process_that_ran_may_go_on),
            test(what_the_storage_refuses_may_not_run),
            test(who_does_not_own_the_disk_may_not_run),
            test(an_arrival_is_a_claim),
            test(an_arrival_without_a_guest_makes_one),
            test(an_arrival_of_another_attempt_or_start_is_none),
            test(a_commit_that_was_cut_off_is_finished),
            test(a_source_that_runs_on_claims_first),
            test(a_source_whose_claim_has_no_answer_stands),
            test(on_a_host_that_was_replaced_what_stands_stays),
            test(without_a_record_or_a_disk_nothing_runs),
            test(a_failovers_start_has_its_receipt_with_the_yes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
