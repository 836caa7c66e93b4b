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
        v.qemu_refused = true;
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

static void a_pause_and_a_crash_are_told(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_PAUSED;
        v.pause = PAUSE_SUSPENDED;
        decides(&v, ACTION_NONE);
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.pause = PAUSE_PASSING; /* it arrives, or starts */
        decides(&v, ACTION_NONE);
        v.pause = PAUSE_SUSPENDED;
        v.move_to = 2;
        v.move_epoch = 5;
        decides(&v, ACTION_MIGRATE); /* which answers why not */
        v.restart = true;
        decides(&v, ACTION_RESTART);
        v = running();
        v.qemu = QEMU_NONE;
        v.settled = false;
        v.retry_ms = 100;
        decides(&v, ACTION_NONE); /* a failed start: its error is told already */
        v.crashed = true;
        decides(&v, ACTION_SETTLE);
        v.settled = true;
        decides(&v, ACTION_NONE);
        v.now_ms = 100;
        decides(&v, ACTION_START);
}

static void what_a_dead_owner_cannot_say_its_heir_says(void **state)
{
        struct instance_view v = running();

        v.host = 2;
        v.qemu = QEMU_NONE;
        v.placement_host = 1;
        v.placement_epoch = 5;
        v.wanted = WANTED_STOPPED;
        v.settled = false;
        decides(&v, ACTION_CLAIM);
        v.told_off = true;
        decides(&v, ACTION_FORGET);
        v.told_off = v.trusted = false;
        decides(&v, ACTION_NONE);
        v.host = 1; /* claimed */
        decides(&v, ACTION_SETTLE);
}

static void a_placement_that_nobody_takes_goes_on(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.placement_host = 2; /* handed on by me, or a user's start */
        v.placement_epoch = 5;
        v.now_ms = 100000;
        v.placed_ms = v.now_ms;
        decides(&v, ACTION_NONE);
        v.now_ms += PLACEMENT_PATIENCE_MS;
        decides(&v, ACTION_HAND_ON);
        v.trusted = false;
        decides(&v, ACTION_NONE);
        v.trusted = true;
        v.wanted = WANTED_STOPPED;
        decides(&v, ACTION_FORGET);
        v.wanted = WANTED_RUNNING;
        v.host = 2; /* taken */
        v.epoch = 6;
        decides(&v, ACTION_FORGET);
}

static void a_host_without_libvirt_hands_on(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.now_ms = v.no_libvirt_ms = 100000;
        decides(&v, ACTION_NONE); /* it may be restarted only */
        v.now_ms += LIBVIRT_PATIENCE_MS;
        decides(&v, ACTION_HAND_ON);
        v.host = 0; /* placed here, and not claimed */
        v.placement_host = 1;
        v.placement_epoch = 5;
        decides(&v, ACTION_HAND_ON);
        v.fixed = true;
        decides(&v, ACTION_NONE);
}

static void three_failed_starts_try_another_host(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.failed_starts = STARTS_HERE - 1;
        decides(&v, ACTION_START);
        v.failed_starts = STARTS_HERE;
        decides(&v, ACTION_HAND_ON);
        v.retry_ms = 10;
        decides(&v, ACTION_NONE);
        v.retry_ms = 0;
        v.fixed = true;
        decides(&v, ACTION_START);
}

static void an_entry_with_me_as_source_is_closed_by_a_claim(void **state)
{
        struct instance_view v = running();

        v.entry_source = 1;
        v.entry_destination = 2;
        v.entry_epoch = 5;
        decides(&v, ACTION_RECLAIM);
        v.qemu = QEMU_PAUSED; /* rule 7: even if nothing seems to be in flight */
        decides(&v, ACTION_RECLAIM);
        v.entry_epoch = 4;
        decides(&v, ACTION_NONE);
        v.qemu_go_on = true;
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

static void actions_have_names(void **state)
{
        for (int i = 0; i < ACTION_MAX; i++) {
                assert_non_null(instance_action_name(i));
                for (int k = 0; k < i; k++)
                        assert_string_not_equal(instance_action_name(i), instance_action_name(k));
        }
        assert_string_equal(instance_action_name(ACTION_MAX), "?");
}

static void what_has_no_record_is_ended_and_forgotten(void **state)
{
        struct instance_view v = running();

        v.record = false;
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_FORGET);
}

/* A placement that counts gives the instance to that host, even though the name is still mine. */
static void what_is_placed_elsewhere_is_not_started_here(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.placement_host = 2;
        v.placement_epoch = 5;
        decides(&v, ACTION_NONE); /* until that one has claimed it, or is late */
        v.placement_epoch = 4;    /* void */
        decides(&v, ACTION_START);
        v.placement_epoch = 5;
        v.placement_host = 1;
        decides(&v, ACTION_START);
        v.placement_host = 2;
        v.host = 3;
        decides(&v, ACTION_FORGET);
        v.wanted = WANTED_DELETED;
        decides(&v, ACTION_FORGET);
        v.placement_host = 1;
        v.trusted = false;
        decides(&v, ACTION_NONE);
        v.wanted = WANTED_RUNNING;
        decides(&v, ACTION_NONE);
        v.wanted = WANTED_STOPPED; /* stopped before it was ever here */
        v.told_off = true;
        decides(&v, ACTION_FORGET);
        v.wanted = WANTED_RUNNING;
        v.trusted = true;
        v.retry_ms = 10;
        v.now_ms = 9;
        decides(&v, ACTION_NONE);
        v.now_ms = 10;
        decides(&v, ACTION_START);
}

/* It powers off while the move that was cancelled for it might still commit; its user has to hear that it did not. */
static void a_stop_waits_for_the_claim_that_closes_a_move(void **state)
{
        struct instance_view v = running();

        v.wanted = WANTED_STOPPED;
        v.entry_source = 1;
        v.entry_destination = 2;
        v.entry_epoch = 5;
        decides(&v, ACTION_RECLAIM);
        v.epoch = v.qemu_epoch = 6;
        decides(&v, ACTION_STOP);
        v.wanted = WANTED_DELETED;
        v.entry_epoch = 6;
        decides(&v, ACTION_KILL);
}

/* Nobody else may start it, and the start waits without an end: that has to be written down. */
static void a_start_that_is_tied_to_a_host_without_libvirt_says_so(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.fixed = true;
        v.trusted = true;
        v.settled = false;
        v.retry_ms = 0;
        v.now_ms = LIBVIRT_PATIENCE_MS + 4;
        v.no_libvirt_ms = 5; /* a daemon that is started again */
        decides(&v, ACTION_NONE);
        v.now_ms++;
        assert_true(instance_waits_for_libvirt(&v));
        decides(&v, ACTION_SETTLE);
        v.settled = true;
        decides(&v, ACTION_NONE);
        v.host = 0; /* placed here, and not claimed yet */
        v.placement_host = 1, v.placement_epoch = v.epoch;
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.fixed = false;
        assert_false(instance_waits_for_libvirt(&v));
        decides(&v, ACTION_HAND_ON);
        v.fixed = true, v.wanted = WANTED_STOPPED;
        assert_false(instance_waits_for_libvirt(&v));
        v.wanted = WANTED_RUNNING, v.leaving = true; /* it starts nothing anyway */
        assert_false(instance_waits_for_libvirt(&v));
        v.leaving = false, v.host = 1, v.placement_host = 2; /* another is to start it */
        assert_false(instance_waits_for_libvirt(&v));
}

static void a_running_guests_wishes_have_an_order(void **state)
{
        struct instance_view v = running();

        v.move_to = 2;
        v.move_epoch = 5;
        v.restart = true;
        decides(&v, ACTION_RESTART);
        v.wanted = WANTED_STOPPED;
        decides(&v, ACTION_STOP);
        v.wanted = WANTED_DELETED;
        decides(&v, ACTION_KILL);
        v = running();
        v.move_to = 1; /* it is here */
        v.move_epoch = 5;
        decides(&v, ACTION_NONE);
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.qemu = QEMU_PAUSED;
        v.pause = PAUSE_PASSING; /* it starts, or arrives */
        decides(&v, ACTION_NONE);
        v.qemu_go_on = true;
        v.trusted = false; /* no gate would open */
        decides(&v, ACTION_NONE);
        v.qemu_refused = true;
        decides(&v, ACTION_KILL);
}

static void a_guest_that_went_off_may_be_wanted_again(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.guest_powered_off = true;
        v.restart = true;
        decides(&v, ACTION_START);
        v.restart = false;
        v.wanted = WANTED_STOPPED;
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.wanted = WANTED_DELETED;
        decides(&v, ACTION_REMOVE);
}

static void only_the_destination_of_this_epochs_entry_may_wait_here(void **state)
{
        const struct instance_view arriving = {.me = 2,
                                               .trusted = true,
                                               .epoch = 5,
                                               .host = 1,
                                               .record = true,
                                               .qemu = QEMU_PAUSED,
                                               .qemu_of_entry = true,
                                               .entry_source = 1,
                                               .entry_destination = 2,
                                               .entry_epoch = 5};
        struct instance_view v = arriving;

        decides(&v, ACTION_NONE);
        v.qemu_of_entry = false; /* another attempt's */
        decides(&v, ACTION_KILL);
        v = arriving;
        v.entry_destination = 3;
        decides(&v, ACTION_KILL);
        v = arriving;
        v.entry_epoch = 4;
        decides(&v, ACTION_KILL);
        v = arriving;
        v.placement_host = 3;
        v.placement_epoch = 5;
        decides(&v, ACTION_NONE);
}

/* Everything that was never let run has the epoch 0, and so has an instance that nobody has claimed. */
static void epoch_0_is_nobodys_half_reclaim(void **state)
{
        struct instance_view v = running();
        struct gate_view g = source_gate();
        const char *why;

        v.epoch = 1;
        v.qemu_epoch = v.entry_epoch = 0;
        v.entry_source = 1;
        decides(&v, ACTION_KILL);
        g.epoch = 1;
        g.qemu_epoch = g.entry_epoch = 0;
        g.entry_source = 1;
        assert_int_equal(gate_decide(&g, &why), GATE_REFUSE);
        assert_string_equal(why, "it belongs to an older epoch");
}

static void the_gate_says_why(void **state)
{
        struct gate_view v = source_gate();
        const char *why = "old";

        assert_int_equal(gate_decide(&v, &why), GATE_CHECK);
        assert_null(why);
        v.known = false;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        assert_string_equal(why, "hostd did not start it");
        v.again = true;
        assert_int_equal(gate_decide(&v, &why), GATE_CHECK);
        v.host = 2;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        assert_string_equal(why, "another host owns the disk");
        v = source_gate();
        v.entry_source =
            2; /* an entry of another source at this epoch: whoever wrote it was not the owner */
        v.entry_epoch = 5;
        assert_int_equal(gate_decide(&v, &why), GATE_CHECK);
        v.destination = true;
        v.attempt_equal = true;
        v.entry_destination = 1;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        assert_string_equal(why, "the source of its migration no longer owns the disk");
        v.host = 2;
        v.entry_destination = 3;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        assert_string_equal(why, "its migration goes to another host");
        v.entry_epoch = 0;
        v.epoch = 0;
        v.entry_source = 0; /* no entry at all */
        v.host = 0;
        v.entry_destination = 1;
        assert_int_equal(gate_decide(&v, &why), GATE_REFUSE);
        assert_string_equal(why, "its migration attempt is no longer valid");
}

/* Every view there is, within small bounds, against the rules that may never break. */
static void no_view_breaks_a_rule(void **state)
{
        for (unsigned n = 0; n < 1u << 19; n++) {
                unsigned b = n;
                struct instance_view v = {.me = 1, .record = true, .now_ms = 5, .epoch = 2, .settled = true};
                enum instance_action a;

                v.trusted = b & 1, b >>= 1;
                v.host = b & 1 ? 1 : 2, b >>= 1;
                v.wanted = (b & 3) % 3, b >>= 2;
                v.placement_host = b & 1 ? 1 : 2, b >>= 1;
                v.placement_epoch = b & 1 ? 2 : 1, b >>= 1;
                v.restart = b & 1, b >>= 1;
                v.move_to = b & 1 ? 2 : 0, b >>= 1;
                v.move_epoch = 2;
                v.entry_source = b & 1 ? 1 : 2, b >>= 1;
                v.entry_destination = 3 - v.entry_source;
                v.entry_epoch = b & 3, b >>= 2;
                v.qemu = (b & 3) % 3, b >>= 2;
                v.qemu_epoch = b & 3, b >>= 2;
                v.qemu_of_entry = b & 1, b >>= 1;
                v.qemu_refused = b & 1, b >>= 1;
                v.qemu_go_on = b & 1, b >>= 1;
                v.retry_ms = b & 1 ? 6 : 5, b >>= 1;
                a = instance_decide(&v);
                if (a == ACTION_START) {
                        assert_true(v.trusted && v.now_ms >= v.retry_ms && v.qemu == QEMU_NONE);
                        assert_true(v.wanted == WANTED_RUNNING);
                        assert_true(v.placement_epoch == v.epoch ? v.placement_host == v.me
                                                                 : v.host == v.me);
                }
                if (a == ACTION_REMOVE)
                        assert_true(v.wanted == WANTED_DELETED && v.qemu == QEMU_NONE);
                if (a == ACTION_CLAIM)
                        assert_true(v.wanted != WANTED_RUNNING && v.qemu == QEMU_NONE);
                if (a == ACTION_REMOVE || a == ACTION_MIGRATE || a == ACTION_RESUME || a == ACTION_RECLAIM ||
                    a == ACTION_STOP || a == ACTION_RESTART)
                        assert_int_equal(v.host, v.me);
                if (a == ACTION_CLAIM)
                        assert_true(v.trusted && v.placement_host == v.me && v.placement_epoch == v.epoch);
                /* Also of one that stands: the move is refused with its reason. */
                if (a == ACTION_MIGRATE || a == ACTION_RESTART)
                        assert_true(v.qemu != QEMU_NONE && !v.qemu_refused && v.qemu_epoch == v.epoch);
                if (a == ACTION_RESUME)
                        assert_true(v.qemu == QEMU_PAUSED && v.trusted);
                if (a == ACTION_KILL)
                        assert_true(v.qemu != QEMU_NONE);
                /* An entry that might still commit stands before everything that lets the source run on. */
                if (v.qemu != QEMU_NONE && v.host == v.me && v.entry_source == v.me &&
                    v.entry_epoch == v.epoch)
                        assert_true(a == ACTION_RECLAIM || a == ACTION_KILL);
                /* Nobody's running QEMU stays. */
                if (v.qemu == QEMU_RUNNING && v.host != v.me &&
                    !(v.qemu_of_entry && v.entry_epoch == v.epoch && v.entry_destination == v.me))
                        assert_int_equal(a, ACTION_KILL);
        }
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
            cmocka_unit_test(a_pause_and_a_crash_are_told),
            cmocka_unit_test(what_a_dead_owner_cannot_say_its_heir_says),
            cmocka_unit_test(a_placement_that_nobody_takes_goes_on),
            cmocka_unit_test(a_host_without_libvirt_hands_on),
            cmocka_unit_test(three_failed_starts_try_another_host),
            cmocka_unit_test(an_entry_with_me_as_source_is_closed_by_a_claim),
            cmocka_unit_test(an_arriving_guest_is_left_alone_until_its_attempt_is_void),
            cmocka_unit_test(gate_checks_an_owners_start),
            cmocka_unit_test(gate_of_a_source_with_an_entry_claims_first),
            cmocka_unit_test(gate_of_a_destination_commits_only_its_own_valid_attempt),
            cmocka_unit_test(gate_finishes_a_commit_that_a_dead_hostd_has_claimed),
            cmocka_unit_test(actions_have_names),
            cmocka_unit_test(what_has_no_record_is_ended_and_forgotten),
            cmocka_unit_test(what_is_placed_elsewhere_is_not_started_here),
            cmocka_unit_test(a_stop_waits_for_the_claim_that_closes_a_move),
            cmocka_unit_test(a_start_that_is_tied_to_a_host_without_libvirt_says_so),
            cmocka_unit_test(a_running_guests_wishes_have_an_order),
            cmocka_unit_test(a_guest_that_went_off_may_be_wanted_again),
            cmocka_unit_test(only_the_destination_of_this_epochs_entry_may_wait_here),
            cmocka_unit_test(epoch_0_is_nobodys_half_reclaim),
            cmocka_unit_test(the_gate_says_why),
            cmocka_unit_test(no_view_breaks_a_rule),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
