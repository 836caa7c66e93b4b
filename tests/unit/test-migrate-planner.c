/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "migrate/failover.h"
#include "migrate/planner.h"

#define GiB (1ULL << 30)

/* The memory of a guest with one core that takes so much of a host, QEMU's own included. */
static uint64_t guest_of(uint64_t bytes)
{
        return (bytes - PLANNER_QEMU_BASE - PLANNER_QEMU_CPU) / 513 * 512;
}

static const struct planner_host hosts[] = {
    {.number = 1, .name = "h1", .alive = true, .cpus = 2, .memory = 8 * GiB, .memory_used = 4 * GiB},
    {.number = 2, .name = "h2", .alive = true, .cpus = 2, .memory = 8 * GiB, .memory_used = 1 * GiB},
    {.number = 3, .name = "h3", .alive = false, .cpus = 64, .memory = 512 * GiB},
    {.number = 4, .name = "h4", .alive = true, .drained = true, .cpus = 64, .memory = 512 * GiB},
};

static void picks_the_living_host_with_most_free_memory(void **state)
{
        struct planner_need need = {.cpus = 1, .memory = 2 * GiB};

        assert_int_equal(planner_pick(hosts, 4, &need, NULL), 1);
        need.not_on = 2;
        assert_int_equal(planner_pick(hosts, 4, &need, NULL), 0);
        need.not_on = 0;
        need.only = 1;
        assert_int_equal(planner_pick(hosts, 4, &need, NULL), 0);
}

static void a_host_that_cannot_start_guests_gets_none(void **state)
{
        struct planner_host two[] = {hosts[0], hosts[1]};
        struct planner_need need = {.cpus = 1, .memory = GiB};
        struct err e = {0};

        two[1].cannot_start = "its libvirt does not answer";
        assert_int_equal(planner_pick(two, 2, &need, NULL), 0);
        need.only = 2;
        assert_int_equal(planner_pick(two, 2, &need, &e), -ENOSPC);
        assert_non_null(strstr(e.text, "h2 can start no guest: its libvirt does not answer"));
        two[1].cannot_start = "";
        assert_int_equal(planner_pick(two, 2, &need, NULL), 1);
}

static void a_group_keeps_its_instances_apart(void **state)
{
        const unsigned avoid[] = {7, 2};
        struct planner_need need = {.cpus = 1, .memory = GiB, .avoid = avoid, .n_avoid = 2};
        struct err e = {0};

        assert_int_equal(planner_pick(hosts, 4, &need, NULL), 0);
        need.not_on = 1;
        assert_int_equal(planner_pick(hosts, 4, &need, &e), -ENOSPC);
        assert_non_null(strstr(e.text, "h2 has another instance of its group"));
}

static void says_why_for_each_host(void **state)
{
        struct planner_need need = {.cpus = 1, .memory = 100 * GiB};
        struct err e = {0};

        assert_int_equal(planner_pick(hosts, 4, &need, &e), -ENOSPC);
        assert_non_null(strstr(e.text, "h1 has 4 GiB of memory free, needed are 100 GiB"));
        assert_non_null(strstr(e.text, "h3 is not alive"));
        assert_non_null(strstr(e.text, "h4 is drained"));
        need.only = 9;
        assert_int_equal(planner_pick(hosts, 4, &need, &e), -ENOENT);
        assert_int_equal(planner_pick(hosts, 0, &(struct planner_need){.cpus = 1}, &e), -ENOSPC);
}

static void cores_are_overcommitted_memory_is_not(void **state)
{
        struct planner_host h = {
            .number = 1, .name = "h1", .alive = true, .cpus = 2, .cpus_used = 7, .memory = GiB};
        struct planner_need need = {.cpus = 1, .memory = guest_of(GiB)};

        assert_int_equal(planner_pick(&h, 1, &need, NULL), 0);
        need.cpus = 2;
        assert_int_equal(planner_pick(&h, 1, &need, NULL), -ENOSPC);
        need.cpus = 1;
        need.memory = guest_of(GiB) + 1024; /* rounding takes up to 512 bytes */
        assert_int_equal(planner_pick(&h, 1, &need, NULL), -ENOSPC);
}

static void qemu_needs_memory_of_its_own(void **state)
{
        struct planner_host h = {.number = 1, .name = "h1", .alive = true, .cpus = 2, .memory = GiB};
        struct planner_need need = {.cpus = 1, .memory = GiB};

        assert_int_equal(planner_pick(&h, 1, &need, NULL), -ENOSPC);
        assert_int_equal(planner_memory(GiB, 2), GiB + (96 + 2 * 8 + 2) * (1ULL << 20));
        planner_use(&h, 2, GiB / 2);
        assert_int_equal(h.cpus_used, 2);
        assert_int_equal(h.memory_used, planner_memory(GiB / 2, 2));
}

static void ids(struct failover_item *items, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                items[i] = (struct failover_item){.cpus = 1, .memory = GiB, .epoch = 5};
                uuid_random(items[i].instance);
        }
}

static void failover_goes_by_priority_and_spreads(void **state)
{
        struct failover_item items[3];
        struct failover f;
        struct failover_item *a, *b, *c;

        ids(items, 3);
        items[2].priority = 10;
        items[0].priority = -1;
        failover_init(&f, 3, items, 3);
        a = failover_next(&f, hosts, 4, 0);
        b = failover_next(&f, hosts, 4, 0);
        c = failover_next(&f, hosts, 4, 0);
        assert_non_null(a);
        assert_non_null(b);
        assert_non_null(c);
        assert_int_equal(a->priority, 10);
        assert_int_equal(c->priority, -1);
        /* host 2 has 7 GiB free, host 1 has 4: all three fit on 2 before 1 becomes the roomier one */
        assert_int_equal(a->target, 2);
        assert_int_equal(b->target, 2);
        assert_null(failover_next(&f, hosts, 4, 0));
        failover_seen(&f, a, 6, 10);
        assert_int_equal(a->state, FAILOVER_DONE);
        assert_false(failover_ended(&f));
        failover_seen(&f, b, 6, 10);
        failover_seen(&f, c, 7, 10);
        assert_true(failover_ended(&f));
}

static void removed_instances_end_the_work(void **state)
{
        struct failover_item items[1];
        struct failover f;

        ids(items, 1);
        failover_init(&f, 3, items, 1);
        failover_gone(&f, failover_next(&f, hosts, 4, 0));
        assert_int_equal(items[0].state, FAILOVER_DONE);
        assert_true(failover_ended(&f));
}

static void silent_targets_are_given_up(void **state)
{
        struct failover_item items[1];
        struct failover f;
        struct failover_item *it;

        ids(items, 1);
        failover_init(&f, 3, items, 1);
        it = failover_next(&f, hosts, 4, 0);
        assert_int_equal(it->target, 2);
        failover_seen(&f, it, 5, FAILOVER_PATIENCE_MS - 1);
        assert_int_equal(it->state, FAILOVER_PLACED);
        failover_seen(&f, it, 5, FAILOVER_PATIENCE_MS);
        assert_int_equal(it->state, FAILOVER_WAITING);
        it = failover_next(&f, hosts, 4, 0);
        assert_int_equal(it->target, 1);
        failover_refused(&f, it, "no");
        it = failover_next(&f, hosts, 4, 0);
        assert_int_equal(it->state, FAILOVER_FAILED);
        assert_true(strlen(it->reason) > 0);
        assert_true(failover_ended(&f));
}

static void only_so_many_at_once(void **state)
{
        struct failover_item items[FAILOVER_AT_ONCE + 1];
        struct failover f;
        struct failover_item *first;

        ids(items, FAILOVER_AT_ONCE + 1);
        for (size_t i = 0; i < FAILOVER_AT_ONCE + 1; i++)
                items[i].memory = 1;
        failover_init(&f, 3, items, FAILOVER_AT_ONCE + 1);
        first = failover_next(&f, hosts, 4, 0);
        for (int i = 1; i < FAILOVER_AT_ONCE; i++)
                assert_non_null(failover_next(&f, hosts, 4, 0));
        assert_null(failover_next(&f, hosts, 4, 0));
        failover_seen(&f, first, 6, 1);
        assert_non_null(failover_next(&f, hosts, 4, 0));
}

static void failover_keeps_groups_apart(void **state)
{
        const struct failover_seat seats[] = {{.group = "ann/db", .host = 2},
                                              {.group = "ann/web", .host = 1}};
        struct failover_item items[3];
        struct failover f;

        ids(items, 3);
        items[0].group = "ann/db"; /* 2 has one of these already */
        items[0].priority = 3;
        items[1].group = "bob/db"; /* another owner's */
        items[1].priority = 2;
        items[2].group = "bob/db"; /* apart from the one before, done or not */
        items[2].priority = 1;
        failover_init(&f, 3, items, 3);
        f.seats = seats;
        f.n_seats = 2;
        assert_int_equal(failover_next(&f, hosts, 4, 0)->target, 1);
        assert_int_equal(failover_next(&f, hosts, 4, 0)->target, 2);
        failover_seen(&f, &items[1], 6, 1);
        assert_int_equal(failover_next(&f, hosts, 4, 0)->target, 1);
        ids(items, 1);
        items[0].group = "ann/db";
        failover_init(&f, 1, items, 1);
        f.seats = seats;
        f.n_seats = 1;
        assert_int_equal(failover_next(&f, hosts, 4, 0)->state, FAILOVER_FAILED);
        assert_non_null(strstr(items[0].reason, "another instance of its group"));
}

static void what_was_placed_counts_also_when_done(void **state)
{
        struct failover_item items[3];
        struct failover f;

        ids(items, 3);
        for (int i = 0; i < 3; i++)
                items[i].memory = guest_of(4 * GiB);
        failover_init(&f, 3, items, 3);
        for (int i = 0; i < 2; i++) { /* 7 GiB and 4 GiB are free: room for one each */
                assert_int_equal(failover_next(&f, hosts, 4, 0)->target, 2 - i);
                failover_seen(&f, &items[i], 6, 1);
        }
        assert_int_equal(failover_next(&f, hosts, 4, 0)->state, FAILOVER_FAILED);
}

static void one_that_was_placed_before_gets_its_time_and_then_another_host(void **state)
{
        struct failover_item items[1];
        struct failover f;

        ids(items, 1);
        items[0].state = FAILOVER_PLACED;
        items[0].target = 1;
        items[0].deadline_ms = 100;
        failover_init(&f, 3, items, 1);
        assert_null(failover_next(&f, hosts, 4, 0));
        assert_false(failover_ended(&f));
        failover_seen(&f, items, 5, 100);
        assert_int_equal(failover_next(&f, hosts, 4, 100)->target, 2);
}

/* Who is asked next, after `me` has failed. */
static unsigned hand_on(struct failover_chain *chain, unsigned me, size_t n_hosts, struct err *e)
{
        static const struct planner_host five[] = {
            {.number = 1, .name = "h1", .alive = true, .cpus = 2, .memory = 5 * GiB},
            {.number = 2, .name = "h2", .alive = true, .cpus = 2, .memory = 4 * GiB},
            {.number = 3, .name = "h3", .alive = true, .cpus = 2, .memory = 3 * GiB},
            {.number = 4, .name = "h4", .alive = true, .cpus = 2, .memory = 2 * GiB},
        };
        struct failover_item item;
        struct failover f;

        ids(&item, 1);
        failover_init(&f, 0, &item, 1);
        return failover_hand_on(&f, chain, me, five, n_hosts, e);
}

static void failed_starts_go_round_the_hosts_with_growing_pauses(void **state)
{
        struct failover_chain chain = {0};
        struct err e = {0};

        assert_int_equal(hand_on(&chain, 1, 2, NULL), 2);
        assert_int_equal(failover_pause_ms(chain.tries), 0);
        assert_int_equal(hand_on(&chain, 2, 2, &e), 2); /* nobody else: stays, and says why */
        assert_int_equal(e.code, -ENOSPC);
        e = (struct err){0};
        assert_int_equal(hand_on(&chain, 2, 2, &e), 1); /* the third: a new round */
        assert_int_equal(e.code, 0);
        assert_int_equal(chain.tries, FAILOVER_TRIES);
        assert_int_equal(failover_pause_ms(chain.tries), 1000);
        assert_int_equal(hand_on(&chain, 1, 2, NULL), 2);
        assert_int_equal(failover_pause_ms(chain.tries), 2000);
        assert_int_equal(failover_pause_ms(1000), 60000);
        chain = (struct failover_chain){0};
        assert_int_equal(hand_on(&chain, 1, 4, NULL), 2);
        assert_int_equal(hand_on(&chain, 2, 4, NULL), 3);
        assert_int_equal(hand_on(&chain, 3, 4, NULL), 4);
        assert_int_equal(hand_on(&chain, 4, 4, NULL), 1); /* it failed longest ago */
        chain = (struct failover_chain){0};
        for (unsigned i = 1; i < 6; i++) /* a host alone tries on */
                assert_int_equal(hand_on(&chain, 1, 1, NULL), 1);
        assert_int_equal(chain.tries, 5);
}

static void the_numbers_decide_to_the_last_byte_and_core(void **state)
{
        const uint64_t room = planner_memory(GiB, 1);
        const struct planner_host same[] = {
            {.number = 5, .name = "h5", .alive = true, .cpus = 1, .memory = room},
            {.number = 2, .name = "h2", .alive = true, .cpus = 1, .memory = room},
            {.number = 7, .name = "h7", .alive = true, .cpus = 1, .memory = room}};
        struct planner_host h = {
            .number = 1, .name = "h1", .alive = true, .cpus = 1, .memory = GiB, .memory_used = 2 * GiB};
        struct planner_need need = {.cpus = 1, .memory = GiB};
        struct err e = {0};
        char why[96] = "";

        assert_int_equal(room, GiB + (2 << 20) + (96 << 20) + (8 << 20));
        assert_int_equal(planner_pick(same, 3, &need, NULL), 1); /* ties to the lowest number */
        need.only = 5;
        assert_int_equal(planner_pick(same, 3, &need, NULL), 0);
        need.memory++;
        assert_int_equal(planner_pick(same, 3, &need, &e), -ENOSPC);
        assert_non_null(strstr(e.text, "no host has room: host h5 has"));
        assert_null(strstr(e.text, "h2"));
        /* beyond its memory: nothing is free, and not nearly everything */
        assert_false(planner_fits(&h, &(struct planner_need){.cpus = 1}, why, sizeof(why)));
        h.memory_used = 0;
        h.cpus_used = 3;
        assert_true(planner_fits(&h, &(struct planner_need){.cpus = 1}, why, sizeof(why)));
        planner_use(&h, 1, 1 << 20);
        assert_int_equal(h.cpus_used, 4);
        assert_int_equal(h.memory_used, planner_memory(1 << 20, 1));
        assert_false(planner_fits(&h, &(struct planner_need){.cpus = 1}, why, sizeof(why)));
        assert_string_equal(why, "has 4 of 4 virtual cores in use, needed are 1");
        h.number = 3;
        assert_false(planner_fits(&h, &(struct planner_need){.not_on = 3}, why, sizeof(why)));
        assert_string_equal(why, "is the one it has to leave");
        h.alive = false;
        assert_false(planner_fits(&h, &(struct planner_need){.cpus = 0}, why, sizeof(why)));
        assert_string_equal(why, "is not alive");
        assert_int_equal(planner_pick(NULL, 0, &need, &e), -ENOENT);
        need.only = 0;
        assert_int_equal(planner_pick(NULL, 0, &need, &e), -ENOSPC);
        assert_string_equal(e.text, "no host has room: no host has joined this store yet");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(picks_the_living_host_with_most_free_memory),
            cmocka_unit_test(says_why_for_each_host),
            cmocka_unit_test(cores_are_overcommitted_memory_is_not),
            cmocka_unit_test(qemu_needs_memory_of_its_own),
            cmocka_unit_test(failover_goes_by_priority_and_spreads),
            cmocka_unit_test(removed_instances_end_the_work),
            cmocka_unit_test(silent_targets_are_given_up),
            cmocka_unit_test(only_so_many_at_once),
            cmocka_unit_test(a_host_that_cannot_start_guests_gets_none),
            cmocka_unit_test(a_group_keeps_its_instances_apart),
            cmocka_unit_test(failover_keeps_groups_apart),
            cmocka_unit_test(what_was_placed_counts_also_when_done),
            cmocka_unit_test(one_that_was_placed_before_gets_its_time_and_then_another_host),
            cmocka_unit_test(failed_starts_go_round_the_hosts_with_growing_pauses),
            cmocka_unit_test(the_numbers_decide_to_the_last_byte_and_core),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
