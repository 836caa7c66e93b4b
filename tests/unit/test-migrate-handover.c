/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/handover.h"

#define GIB (1ULL << 30)
#define TOTAL 300000

/* Host 1 goes down; 2 has room for 8 GiB, 3 for 4. */
static const struct planner_host hosts[] = {
    {.number = 1, .name = "h1", .alive = true, .cpus = 8, .memory = 64 * GIB},
    {.number = 2, .name = "h2", .alive = true, .cpus = 8, .memory = 8 * GIB},
    {.number = 3, .name = "h3", .alive = true, .cpus = 8, .memory = 4 * GIB}};

struct world {
        struct failover_item items[4];
        struct handover_guest guests[4];
        struct handover h;
};

/* n guests of 1 GiB that run, the first with the highest priority. */
static void begin(struct world *w, size_t n)
{
        memset(w, 0, sizeof(*w));
        for (size_t k = 0; k < n; k++) {
                w->items[k] =
                    (struct failover_item){.priority = (int)(n - k), .cpus = 1, .memory = GIB, .epoch = 5};
                w->items[k].instance[0] = (char)('a' + k);
        }
        handover_init(&w->h, 1, w->items, w->guests, n, 0, TOTAL);
        for (size_t k = 0; k < n; k++)
                w->guests[k].movable = true;
}

/* The next order, as "a live 2": which, how, to whom; "" for none. */
static const char *next(struct world *w, int64_t now, char buf[32])
{
        static const char *const names[] = {"waits", "live", "stop", "end"};
        size_t k;

        buf[0] = '\0';
        if (handover_next(&w->h, hosts, 3, now, &k))
                snprintf(buf, 32, "%s %s %u", w->items[k].instance, names[w->guests[k].how],
                         w->items[k].target);
        return buf;
}

#define expect(w, now, text) assert_string_equal(next(w, now, (char[32]){0}), text)

static void guests_move_live_by_priority_a_few_at_a_time(void **state)
{
        struct world w;

        begin(&w, 4);
        expect(&w, 0, "a live 2");
        expect(&w, 0, "b live 2");
        expect(&w, 0, "");
        handover_done(&w.h, 0);
        expect(&w, 9000, "c live 2");
        expect(&w, 9000, "");
        handover_done(&w.h, 1);
        handover_done(&w.h, 2);
        expect(&w, 20000, "d live 2"); /* ties to the lowest number */
        assert_false(handover_ended(&w.h));
        handover_done(&w.h, 3);
        assert_true(handover_ended(&w.h));
}

static void a_guest_too_big_for_the_time_stops_and_starts_elsewhere(void **state)
{
        struct world w;

        begin(&w, 2);
        w.items[0].memory = 7 * GIB;
        expect(&w, 150000, "a stop 2");
        expect(&w, 150000, "b live 3");
        expect(&w, 150000, "");
        expect(&w, TOTAL - HANDOVER_STOP_MS, "b stop 3"); /* its move takes too long */
        expect(&w, TOTAL - HANDOVER_STOP_MS, "");
        expect(&w, TOTAL - HANDOVER_END_MS, "a end 2");
        expect(&w, TOTAL - HANDOVER_END_MS, "b end 3");
        expect(&w, TOTAL, "");
        handover_done(&w.h, 0);
        handover_done(&w.h, 1);
        assert_true(handover_ended(&w.h));
}

static void who_finds_no_room_stops_and_waits_for_its_host(void **state)
{
        struct world w;

        begin(&w, 1);
        w.items[0].memory = 9 * GIB;
        expect(&w, 0, "a stop 0");
        begin(&w, 1);
        w.h.stay = true; /* in maintenance */
        expect(&w, 0, "a stop 0");
        expect(&w, 1000, "");
        expect(&w, TOTAL - HANDOVER_END_MS, "a end 0");
}

static void a_paused_guest_does_not_move_live(void **state)
{
        struct world w;

        begin(&w, 1);
        w.guests[0].movable = false;
        expect(&w, 0, "a stop 2");
}

static void a_move_that_fails_is_tried_elsewhere_then_from_the_disk(void **state)
{
        struct world w;

        begin(&w, 1);
        expect(&w, 0, "a live 2");
        handover_failed(&w.h, 0, "no");
        expect(&w, 1000, "a live 3");
        handover_failed(&w.h, 0, "no");
        expect(&w, 2000, "a stop 2"); /* who cannot receive it may start it */
        handover_failed(&w.h, 0, "its libvirt does not answer");
        expect(&w, 3000, "a stop 3");
        handover_failed(&w.h, 0, "its libvirt does not answer");
        expect(&w, 4000, "a stop 0"); /* asked all; it waits for its own host */
        expect(&w, 5000, "");
        assert_false(handover_ended(&w.h));
}

static void a_short_time_is_divided_alike(void **state)
{
        struct world w;

        begin(&w, 1);
        w.h.total_ms = 30000;
        w.items[0].memory = GIB / 4; /* 5 s */
        expect(&w, 14000, "a live 2");
        expect(&w, 20000, "a stop 2");
        expect(&w, 26999, "");
        expect(&w, 27000, "a end 2");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(guests_move_live_by_priority_a_few_at_a_time),
            cmocka_unit_test(a_guest_too_big_for_the_time_stops_and_starts_elsewhere),
            cmocka_unit_test(who_finds_no_room_stops_and_waits_for_its_host),
            cmocka_unit_test(a_paused_guest_does_not_move_live),
            cmocka_unit_test(a_move_that_fails_is_tried_elsewhere_then_from_the_disk),
            cmocka_unit_test(a_short_time_is_divided_alike),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
