/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/instance.h"

/* A guest that runs here as it should. */
static struct instance_view running(void)
{
        return (struct instance_view){.me = 1,
                                      .trusted = true,
                                      .epoch = 5,
                                      .host = 1,
                                      .record = true,
                                      .wanted = WANTED_RUNNING,
                                      .settled = true,
                                      .qemu = QEMU_RUNNING,
                                      .qemu_epoch = 5};
}

#define decides(v, a) assert_string_equal(instance_action_name(instance_decide(v)), instance_action_name(a))

static void the_name_alone_decides(void **state)
{
        struct instance_view v = running();

        decides(&v, ACTION_NONE);
        v.host = 2; /* another host has claimed it */
        v.epoch = 6;
        decides(&v, ACTION_KILL);
        v.placement_host = 1; /* made at an older epoch: void */
        v.placement_epoch = 5;
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_FORGET);
        v.placement_epoch = 6;
        decides(&v, ACTION_START);
}

static void a_qemu_of_an_older_epoch_is_killed_then_started_by_a_new_claim(void **state)
{
        struct instance_view v = running();

        v.qemu_epoch = 4;
        decides(&v, ACTION_KILL);
        v.qemu_epoch = 0; /* never let run */
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_START);
}

static void a_host_that_goes_down_starts_nothing_and_stops_what_it_is_told(void **state)
{
        struct instance_view v = running();

        v.leaving = true;
        decides(&v, ACTION_NONE);
        v.leave = true;
        decides(&v, ACTION_STOP);
        v.qemu = QEMU_PAUSED;
        decides(&v, ACTION_STOP);
        v.entry_epoch = 5, v.entry_source = 1; /* a move from here is open: that is closed first */
        decides(&v, ACTION_RECLAIM);
        v = running(), v.leaving = v.leave = true;
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_NONE);
        v.placement_host = 2, v.placement_epoch = 5; /* handed on */
        decides(&v, ACTION_FORGET);
}

static void a_host_without_heartbeats_starts_nothing(void **state)
{
        struct instance_view v = running();

        v.trusted = false;
        decides(&v, ACTION_NONE); /* and kills nothing that still may write */
        v.qemu_fenced = true;
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_NONE);
        v.trusted = true;
        v.retry_ms = 100;
        v.now_ms = 99;
        decides(&v, ACTION_NONE);
        v.now_ms = 100;
        decides(&v, ACTION_START);
}

static void wishes_are_carried_out(void **state)
{
        struct instance_view v = running();

        v.wanted = WANTED_STOPPED;
        decides(&v, ACTION_STOP);
        v.qemu = QEMU_NONE;
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.settled = true;
        decides(&v, ACTION_FORGET);
        v = running();
        v.restart = true;
        decides(&v, ACTION_RESTART);
        v = running();
        v.move_to = 2;
        v.move_epoch = 5;
        decides(&v, ACTION_MIGRATE);
        v.move_epoch = 4; /* asked for at another epoch: void */
        decides(&v, ACTION_NONE);
        v = running();
        v.wanted = WANTED_DELETED;
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_REMOVE);
        v.host = 2;
        v.placement_host = 1;
        v.placement_epoch = 5;
        decides(&v, ACTION_CLAIM);
}

static void a_guest_that_powers_itself_off_stays_off(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.guest_powered_off = true;
        decides(&v, ACTION_NOTE_OFF);
        v.guest_powered_off = false; /* a crash */
        decides(&v, ACTION_START);
}

static void an_entry_with_me_as_source_is_closed_by_a_claim(void **state)
{
        struct instance_view v = running();

        v.entry_source = 1;
        v.entry_destination = 2;
        v.entry_epoch = 5;
        decides(&v, ACTION_RECLAIM);
        v.qemu = QEMU_PAUSED; /* rule 6: even if nothing seems to be in flight */
        decides(&v, ACTION_RECLAIM);
        v.entry_epoch = 4;
        decides(&v, ACTION_NONE);
        v.qemu_io_error = true;
        decides(&v, ACTION_RESUME);
        v = running(); /* that claim was won at 4, and its hostd died before the record said so */
        v.entry_source = 1;
        v.entry_destination = 2;
        v.entry_epoch = v.qemu_epoch = 4;
        decides(&v, ACTION_RECLAIM);
        v.entry_source = 2;
        decides(&v, ACTION_KILL);
        v.entry_source = 1;
        v.epoch = 6; /* who knows by whom */
        decides(&v, ACTION_KILL);
        v.epoch = 5;
        v.host = 2;
        decides(&v, ACTION_KILL);
}

static void an_arriving_guest_is_left_alone_until_its_attempt_is_void(void **state)
{
        struct instance_view v = running();

        v.me = 2;
        v.qemu = QEMU_PAUSED;
        v.qemu_epoch = 0;
        v.qemu_of_entry = true;
        v.entry_source = 1;
        v.entry_destination = 2;
        v.entry_epoch = 5;
        decides(&v, ACTION_NONE);
        v.placement_host = 2; /* a failover: the source is dead, nothing more will come */
        v.placement_epoch = 5;
        decides(&v, ACTION_KILL);
        v.trusted = false;
        decides(&v, ACTION_NONE);
        v.placement_host = 0;
        v.epoch = 6; /* the source has claimed: it runs on */
        decides(&v, ACTION_KILL);
}

static struct gate_view source_gate(void)
{
        return (struct gate_view){.me = 1, .epoch = 5, .host = 1, .qemu_epoch = 5, .known = true};
}

static void gate_checks_an_owners_start(void **state)
{
        struct gate_view v = source_gate();
        const char *why;

        assert_int_equal(gate_decide(&v, &why), GATE_CHECK);
        v.known = false; /* virsh create behind hostd's back */
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        assert_non_null(why);
        v = source_gate();
        v.epoch = 6;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = source_gate();
        v.host = 2;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
}

static void gate_of_a_source_with_an_entry_claims_first(void **state)
{
        struct gate_view v = source_gate();
        const char *why;

        v.entry_source = 1;
        v.entry_destination = 2;
        v.entry_epoch = 5;
        assert_int_equal(gate_decide(&v, &why), GATE_RECLAIM);
        v.entry_epoch = 4;
        assert_int_equal(gate_decide(&v, &why), GATE_CHECK);
        v.qemu_epoch = 4; /* the claim is won, and the record does not say so */
        assert_int_equal(gate_decide(&v, &why), GATE_RECLAIM);
        v.entry_source = 2;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
}

static void gate_of_a_destination_commits_only_its_own_valid_attempt(void **state)
{
        const struct gate_view good = {.me = 2,
                                       .epoch = 5,
                                       .host = 1,
                                       .entry_source = 1,
                                       .entry_destination = 2,
                                       .entry_epoch = 5,
                                       .destination = true,
                                       .attempt_equal = true};
        struct gate_view v = good;
        const char *why;

        assert_int_equal(gate_decide(&v, &why), GATE_COMMIT);
        v.attempt_equal = false;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = good;
        v.epoch = 6; /* claimed by the source, or by a failover */
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = good;
        v.me = 3;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = good;
        v.host = 3;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = good;
        v.entry_source = 0;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
}

static void gate_finishes_a_commit_that_a_dead_hostd_has_claimed(void **state)
{
        const struct gate_view good = {.me = 2,
                                       .epoch = 6,
                                       .host = 2,
                                       .entry_source = 1,
                                       .entry_destination = 2,
                                       .entry_epoch = 5,
                                       .destination = true,
                                       .attempt_equal = true,
                                       .again = true,
                                       .run_epoch = 5};
        struct gate_view v = good;
        const char *why;

        assert_int_equal(gate_decide(&v, &why), GATE_COMMIT);
        v.again = false; /* an arrival that was not there when the claim was won */
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = good;
        v.run_epoch = 6; /* another start has run since */
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = good;
        v.epoch = 7; /* so may one have at epoch 6 */
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = good;
        v.host = 1; /* the source has won */
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = good;
        v.attempt_equal = false;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        v = good;
        v.entry_destination = 3;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        /* It had come as far as the record. */
        v = (struct gate_view){
            .me = 2, .epoch = 6, .host = 2, .qemu_epoch = 6, .again = true, .run_epoch = 6};
        assert_int_equal(gate_decide(&v, &why), GATE_CHECK);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_name_alone_decides),
            cmocka_unit_test(a_qemu_of_an_older_epoch_is_killed_then_started_by_a_new_claim),
            cmocka_unit_test(a_host_that_goes_down_starts_nothing_and_stops_what_it_is_told),
            cmocka_unit_test(a_host_without_heartbeats_starts_nothing),
            cmocka_unit_test(wishes_are_carried_out),
            cmocka_unit_test(a_guest_that_powers_itself_off_stays_off),
            cmocka_unit_test(an_entry_with_me_as_source_is_closed_by_a_claim),
            cmocka_unit_test(an_arriving_guest_is_left_alone_until_its_attempt_is_void),
            cmocka_unit_test(gate_checks_an_owners_start),
            cmocka_unit_test(gate_of_a_source_with_an_entry_claims_first),
            cmocka_unit_test(gate_of_a_destination_commits_only_its_own_valid_attempt),
            cmocka_unit_test(gate_finishes_a_commit_that_a_dead_hostd_has_claimed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
