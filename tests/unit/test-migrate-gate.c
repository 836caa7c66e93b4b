/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/instance.h"

/* The gate: may these vCPUs run, and what is claimed first. */

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

/* A no would end what a hostd before this one has let run, and which the next look may adopt. */
static void a_no_spares_what_ran_here_at_this_epoch(void **state)
{
        struct gate_view v = {.me = 1, .epoch = 5, .host = 1, .run_epoch = 5, .run_last = true};

        assert_true(gate_spares(&v, GATE_REFUSE, false));
        v.known = true; /* this hostd knows better */
        assert_false(gate_spares(&v, GATE_REFUSE, false));
        v.known = false, v.destination = true;
        assert_false(gate_spares(&v, GATE_REFUSE, false));
        v.destination = false, v.host = 2;
        assert_false(gate_spares(&v, GATE_REFUSE, false));
        v.host = 1, v.run_last = false; /* another start was let run */
        assert_false(gate_spares(&v, GATE_REFUSE, false));
        v.run_last = true, v.epoch = 6;
        assert_false(gate_spares(&v, GATE_REFUSE, false));
}

/* One that has run here may stand until the next look. An arrival has not run yet: it ends. */
static void no_answer_spares_what_has_run_here(void **state)
{
        struct gate_view v = {.me = 1, .epoch = 5, .host = 1, .known = true};

        assert_true(gate_spares(&v, GATE_CHECK, true));
        assert_false(gate_spares(&v, GATE_CHECK, false));
        assert_false(gate_spares(&v, GATE_COMMIT, true));
        assert_true(gate_spares(&v, GATE_RECLAIM, true)); /* a claim that came through is made once more */
        assert_false(gate_spares(&v, GATE_RECLAIM, false));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(gate_checks_an_owners_start),
            cmocka_unit_test(gate_of_a_source_with_an_entry_claims_first),
            cmocka_unit_test(gate_of_a_destination_commits_only_its_own_valid_attempt),
            cmocka_unit_test(gate_finishes_a_commit_that_a_dead_hostd_has_claimed),
            cmocka_unit_test(the_gate_says_why),
            cmocka_unit_test(a_no_spares_what_ran_here_at_this_epoch),
            cmocka_unit_test(no_answer_spares_what_has_run_here),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
