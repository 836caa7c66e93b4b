/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "migrate/admission.h"

#define GiB (1ULL << 30)

static struct admission_view fits(void)
{
        return (struct admission_view){.host = "h2",
                                       .group = "",
                                       .known = true,
                                       .free = {.number = 2, .alive = true, .cpus = 4, .memory = 8 * GiB},
                                       .cpus = 1,
                                       .memory = GiB,
                                       .arriving_max = 2};
}

static void expect(const struct admission_view *v, int r, const char *text)
{
        struct err e = {0};

        assert_int_equal(admission_check(v, &e), r);
        if (r < 0)
                assert_non_null(strstr(err_text(&e), text));
}

static void yes_where_it_fits(void **state)
{
        struct admission_view v = fits();

        expect(&v, 0, NULL);
        v.arrival = true, v.arriving = 1;
        expect(&v, 0, NULL);
}

static void each_reason_alone_refuses(void **state)
{
        struct admission_view v = fits();

        v.memory = 8 * GiB; /* without QEMU's own it would fit */
        expect(&v, -ENOSPC, "host h2 ");
        v = fits(), v.known = false;
        expect(&v, -EAGAIN, "host h2 is still finding out what runs on it");
        v = fits(), v.ends = true;
        expect(&v, -EAGAIN, "hostd on host h2 ends");
        v = fits(), v.group = "me/db", v.group_here = "x";
        expect(&v, -EEXIST, "instance x of the same group db is on host h2 already");
        v = fits(), v.arrival = true, v.arriving = 2;
        expect(&v, -EUSERS, "host h2 takes 2 at the same time");
        v.arrival = false; /* a start takes no turn */
        expect(&v, 0, NULL);
        v = fits(), v.arrival = true, v.promised = true, v.acts = true;
        expect(&v, -EUSERS, "host h2 is still starting or ending an earlier QEMU of it");
        v.arrival = false; /* that start itself */
        expect(&v, 0, NULL);
}

/* Its room is kept already; its group's seat and its turn are not. */
static void what_is_promised_needs_no_second_room(void **state)
{
        struct admission_view v = fits();

        v.promised = true, v.known = false, v.ends = true, v.memory = 9 * GiB;
        expect(&v, 0, NULL);
        v.arrival = true, v.arriving = 2;
        expect(&v, -EUSERS, "others are arriving");
        v.group = "me/db", v.group_here = "x";
        expect(&v, -EEXIST, "same group");
}

/* What it decided by a look that is old by now must not hit what came after that. */
static void an_action_that_may_end_a_qemu_lets_nothing_in(void **state)
{
        static const enum instance_action ends[] = {ACTION_KILL, ACTION_START, ACTION_STOP, ACTION_RESTART,
                                                    ACTION_REMOVE};
        static const enum instance_action others[] = {ACTION_NONE,   ACTION_MIGRATE,  ACTION_RESUME,
                                                      ACTION_SETTLE, ACTION_NOTE_OFF, ACTION_HAND_ON};

        for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
                assert_true(admission_acts(ends[i]));
        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                assert_false(admission_acts(others[i]));
}

/* Host 2 owns it at epoch 7, and it runs. */
static struct instance_view here(void)
{
        return (struct instance_view){
            .me = 2, .now_ms = 1000, .record = true, .epoch = 7, .host = 2, .qemu = QEMU_RUNNING};
}

static void room_is_kept_for_what_is_here_or_should_be(void **state)
{
        struct instance_view v = here();

        assert_true(admission_keeps(&v, 0) && admission_due(&v, true));
        v.qemu = QEMU_NONE; /* it is about to start again */
        assert_true(admission_keeps(&v, 0) && !admission_due(&v, true));
        v.placement_host = 3, v.placement_epoch = 7; /* no: another host is to start it */
        assert_false(admission_keeps(&v, 0));
        v.placement_epoch = 6; /* void */
        assert_true(admission_keeps(&v, 0));
        v.wanted = WANTED_STOPPED;
        assert_false(admission_keeps(&v, 0));
        v = here(), v.host = 3, v.qemu = QEMU_NONE;
        assert_false(admission_keeps(&v, 0));
        v = here(), v.record = false;
        assert_false(admission_keeps(&v, 2000) || admission_arrives(&v, 2000) || admission_due(&v, true));
}

static void room_is_kept_for_an_arrival_for_a_while_or_until_its_entry_is_void(void **state)
{
        struct instance_view v = here();

        v.host = 1, v.qemu = QEMU_NONE;
        assert_true(admission_arrives(&v, 1001) && admission_keeps(&v, 1001) && !admission_due(&v, true));
        assert_false(admission_arrives(&v, 1000) || admission_keeps(&v, 1000));
        v.entry_source = 1, v.entry_destination = 2, v.entry_epoch = 7;
        assert_true(admission_arrives(&v, 0) && admission_keeps(&v, 0) && admission_due(&v, true));
        assert_false(admission_due(&v, false));
        v.placement_host = 3, v.placement_epoch = 7; /* its source was taken for dead: it starts elsewhere */
        assert_false(admission_arrives(&v, 0) || admission_keeps(&v, 0) || admission_due(&v, true));
        v.placement_epoch = 6; /* void */
        assert_true(admission_arrives(&v, 0));
        v.placement_epoch = 7, v.placement_host = 2; /* here: a start, which is counted as one */
        assert_false(admission_arrives(&v, 0) || admission_keeps(&v, 0) || admission_due(&v, true));
        v.placement_host = 0;
        v.entry_destination = 3;
        assert_false(admission_arrives(&v, 0) || admission_keeps(&v, 0) || admission_due(&v, true));
        v.entry_destination = 2, v.epoch = 8;
        assert_false(admission_arrives(&v, 0) || admission_keeps(&v, 0) || admission_due(&v, true));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(yes_where_it_fits),
            cmocka_unit_test(each_reason_alone_refuses),
            cmocka_unit_test(what_is_promised_needs_no_second_room),
            cmocka_unit_test(an_action_that_may_end_a_qemu_lets_nothing_in),
            cmocka_unit_test(room_is_kept_for_what_is_here_or_should_be),
            cmocka_unit_test(room_is_kept_for_an_arrival_for_a_while_or_until_its_entry_is_void),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
