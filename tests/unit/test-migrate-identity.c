/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/identity.h"
#include "migrate/instance.h"

static const struct machine here = {.boot = "b1", .view = "1-1", .board = "m/x"},
                            clone = {.boot = "b2", .view = "1-1", .board = "m/y"},
                            lab = {.boot = "b1", .view = "7-8", .board = "m/x"};

static struct identity_view view(const struct machine *record)
{
        struct identity_view v = {.me = &here, .name = "h1", .record_name = "h1", .joined = record != NULL};

        if (record)
                v.machine = *record;
        return v;
}

static void the_same_machine_beats_at_once(void **state)
{
        struct identity_view v = view(&here);

        assert_int_equal(identity_decide(&v), IDENTITY_BEAT);
        v.alive = true; /* its own earlier hostd still beats: the newer one stays */
        assert_int_equal(identity_decide(&v), IDENTITY_BEAT);
}

static void a_free_number_is_joined_at_once(void **state)
{
        struct identity_view v = view(NULL);

        assert_int_equal(identity_decide(&v), IDENTITY_JOIN);
}

static void nobody_joins_over_a_living_machine(void **state)
{
        const struct machine *const others[] = {&clone, &lab};

        for (int i = 0; i < 2; i++) {
                struct identity_view v = view(others[i]);

                assert_int_equal(identity_decide(&v), IDENTITY_WAIT);
                v.still_ms = IDENTITY_WATCH_MS - 1;
                assert_int_equal(identity_decide(&v), IDENTITY_WAIT);
                v.alive = true;
                assert_int_equal(identity_decide(&v), IDENTITY_REFUSE_ALIVE);
                v.still_ms = IDENTITY_WATCH_MS;
                assert_int_equal(identity_decide(&v), IDENTITY_REFUSE_ALIVE);
        }
}

/* A reinstalled host, one with another mainboard, or one that was started anew. */
static void a_dead_machines_number_goes_to_one_of_its_name(void **state)
{
        struct identity_view v = view(&clone);

        v.still_ms = IDENTITY_WATCH_MS;
        assert_int_equal(identity_decide(&v), IDENTITY_JOIN);
        v.record_name = "h2";
        assert_int_equal(identity_decide(&v), IDENTITY_REFUSE_NAME);
}

static void a_machine_that_does_not_know_itself_is_no_other(void **state)
{
        const struct machine nameless = {.board = "m/x"};
        struct identity_view v = view(&nameless);

        v.me = &nameless;
        assert_false(identity_same(&nameless, &nameless));
        assert_int_equal(identity_decide(&v), IDENTITY_WAIT);
}

static void a_hostd_that_runs_finds_out_what_became_of_its_number(void **state)
{
        assert_int_equal(identity_check(&here, "n1", 4, &here, "n1", 4), IDENTITY_MINE);
        assert_int_equal(identity_check(&here, "n1", 4, &here, "n1", 5), IDENTITY_TAKEN);
        assert_int_equal(identity_check(&here, "n1", 4, &here, "n2", 5), IDENTITY_SUPERSEDED);
        assert_int_equal(identity_check(&here, "n1", 4, &clone, "n2", 5), IDENTITY_REPLACED);
        assert_int_equal(identity_check(&here, "n1", 4, &lab, "n2", 4), IDENTITY_REPLACED);
}

/* The name says "mine" to the machine that has the number now; this one only ends what is nobody's. */
static void a_replaced_host_only_kills(void **state)
{
        struct instance_view v = {.me = 1,
                                  .host = 1,
                                  .epoch = 5,
                                  .trusted = true,
                                  .replaced = true,
                                  .record = true,
                                  .wanted = WANTED_RUNNING};

        assert_int_equal(instance_decide(&v), ACTION_FORGET);
        v.guest_powered_off = true;
        assert_int_equal(instance_decide(&v), ACTION_FORGET);
        v.qemu = QEMU_RUNNING;
        v.qemu_epoch = 0; /* its start is not the record's */
        assert_int_equal(instance_decide(&v), ACTION_KILL);
        v.qemu_epoch = 4; /* the other machine has claimed it */
        assert_int_equal(instance_decide(&v), ACTION_KILL);
        v.qemu_epoch = 5;
        assert_int_equal(instance_decide(&v), ACTION_NONE);
        v.wanted = WANTED_STOPPED; /* the other machine sees no QEMU, and says "stopped" */
        assert_int_equal(instance_decide(&v), ACTION_KILL);
        v.wanted = WANTED_RUNNING;
        v.record = false;
        assert_int_equal(instance_decide(&v), ACTION_KILL);
}

static void every_answer_has_a_name(void **state)
{
        for (int i = 0; i < IDENTITY_ACTION_MAX; i++)
                assert_true(strlen(identity_action_name((enum identity_action)i)) > 1);
        for (int i = 0; i < IDENTITY_VERDICT_MAX; i++)
                assert_true(strlen(identity_verdict_name((enum identity_verdict)i)) > 1);
        assert_string_equal(identity_action_name(IDENTITY_ACTION_MAX), "?");
        assert_string_equal(identity_verdict_name(IDENTITY_VERDICT_MAX), "?");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_same_machine_beats_at_once),
            cmocka_unit_test(a_free_number_is_joined_at_once),
            cmocka_unit_test(nobody_joins_over_a_living_machine),
            cmocka_unit_test(a_dead_machines_number_goes_to_one_of_its_name),
            cmocka_unit_test(a_machine_that_does_not_know_itself_is_no_other),
            cmocka_unit_test(a_hostd_that_runs_finds_out_what_became_of_its_number),
            cmocka_unit_test(a_replaced_host_only_kills),
            cmocka_unit_test(every_answer_has_a_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
