/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/instance-view.h"

/* A migration, as its entry in the record tells: both ends, and what closes it. */

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
        struct gate_view g = {.me = 1, .host = 1, .known = true};
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

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(an_entry_with_me_as_source_is_closed_by_a_claim),
            cmocka_unit_test(a_stop_waits_for_the_claim_that_closes_a_move),
            cmocka_unit_test(an_arriving_guest_is_left_alone_until_its_attempt_is_void),
            cmocka_unit_test(only_the_destination_of_this_epochs_entry_may_wait_here),
            cmocka_unit_test(epoch_0_is_nobodys_half_reclaim),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
