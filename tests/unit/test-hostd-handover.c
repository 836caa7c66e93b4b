/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostd/handover.h"
#include "tests/unit/hostd-fixture.h"

/*
 * A host that goes down hands its guests on: what it asks for, in which order, and when it is done. This host is 2; hosts
 * 3 and 4 have room, 3 has more.
 */
#define ID fixture_id('a')

static struct {
        bool process; /* its QEMU is here */
        unsigned aborts;
        void (*each)(void);
        unsigned steps;
} world;
static struct guest *g;

int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err);
int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        *ret = calloc(1, sizeof(**ret));
        strcpy((*ret)[0].lease.instance, ID);
        *ret_n = world.process;
        return 0;
}

int __wrap_virt_migrate_abort(struct virt *v, const char *instance, struct err *err);
int __wrap_virt_migrate_abort(struct virt *v, const char *instance, struct err *err)
{
        world.aborts++;
        return 0;
}

static void on_poll(struct fixture *f, int ms)
{
        f->self.own_write_ms = f->now_ms;
        world.steps++;
        if (world.each)
                world.each();
}

static int begin(void **state)
{
        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        fixture.on_poll = on_poll;
        fixture.config.handover_ms = 240000;
        fixture_host(2, "up", 1, "");
        fixture_host(3, "up", 1, "");
        fixture_host(4, "up", 1, "");
        fixture_instance('a', "");
        fixture_claim('a', 2);
        g = fixture_guest('a');
        g->wake = false;
        g->runs = world.process = true;
        return 0;
}

static const char *field(const char *path)
{
        return fixture_field(RECORD_INSTANCE, ID, path);
}

static void set(const char *path, const char *value)
{
        fixture_set(RECORD_INSTANCE, ID, path, value);
}

static int64_t run(void)
{
        int64_t begun = fixture.now_ms;

        handover_run(&fixture.ctx);
        return fixture.now_ms - begun;
}

static void claimed_by(unsigned host)
{
        struct lease now;

        assert_int_equal(lease_find(fixture.ctx.store, ID, &now, NULL), 0);
        if (now.host == 2)
                fixture_claim('a', host);
        g->runs = world.process = false;
}

static void it_arrives(void)
{
        if (strcmp(field("move"), "absent") != 0)
                claimed_by(3);
}

static void one_that_runs_moves_alive(void **state)
{
        set("status", "{\"move\":{\"serial\":6,\"state\":\"done\"}}");
        world.each = it_arrives;
        assert_in_range(run(), 1, 1000);
        assert_string_equal(field("move"), "{\"epoch\":1,\"serial\":7,\"to\":3}");
        assert_string_equal(field("placement"), "absent");
        assert_string_equal(fixture.events, "host-leaving handover ");
        assert_string_equal(fixture.woken, "a ");
        assert_true(fixture.self.leaving);
        assert_false(g->leave);
        assert_int_equal(world.aborts, 0);
}

static void nothing_is_handed_on_where_nobody_wants_that(void **state)
{
        fixture.config.handover_ms = 0;
        assert_int_equal(run(), 0);
        fixture.config.handover_ms = 240000;
        fixture.self.replaced = true; /* the number is another machine's */
        assert_int_equal(run(), 0);
        assert_false(fixture.self.leaving);
        fixture.self.replaced = false;
        set("wanted", "\"stopped\"");
        assert_int_equal(run(), 0);
        set("wanted", "\"running\"");
        set("placement", "{\"host\":3,\"epoch\":1}"); /* on its way elsewhere */
        assert_int_equal(run(), 0);
        set("placement", "null");
        fixture_claim('a', 3);
        assert_int_equal(run(), 0);
        assert_string_equal(fixture.events, "");
        assert_string_equal(field("move"), "absent");
}

/* Powers off here, and starts there once its QEMU is gone and its thread has nothing in hand. */
static void it_powers_off(void)
{
        if (!g->leave || world.steps < 5)
                return;
        if (world.process || g->busy) {
                assert_string_equal(field("placement"), "null");
                assert_string_equal(fixture.looks, "");
        }
        if (world.steps == 5) {
                world.process = false;
                g->busy = true;
        } else if (world.steps == 8) {
                g->busy = g->wake = false;
        } else if (world.steps == 12) {
                assert_string_equal(field("placement"), "{\"epoch\":1,\"host\":3}");
                assert_string_equal(fixture.looks, "3:a "); /* once */
                claimed_by(3);
        }
}

static void one_that_cannot_move_is_stopped_and_then_placed(void **state)
{
        set("placement", "null");
        g->runs = false;
        world.each = it_powers_off;
        assert_in_range(run(), 1, 5000);
        assert_string_equal(field("placement"), "{\"epoch\":1,\"host\":3}");
        assert_string_equal(field("move"), "absent");
        assert_false(g->leave_at_once);
        assert_string_equal(fixture.events, "host-leaving handover ");
}

static void it_is_gone(void)
{
        if (!g->leave)
                return;
        g->runs = world.process = false;
        g->busy = g->wake = false;
        if (strcmp(fixture.looks, "3:a 4:a ") == 0)
                claimed_by(4);
}

static void who_cannot_start_it_is_no_target(void **state)
{
        g->runs = false;
        fixture.look_answer[3] = -EAGAIN;
        world.each = it_is_gone;
        assert_in_range(run(), 1, 5000);
        assert_string_equal(field("placement"), "{\"epoch\":1,\"host\":4}");
        assert_string_equal(fixture.looks, "3:a 4:a ");
}

static void its_user_stops_it(void)
{
        set("wanted", "\"stopped\"");
        world.process = false;
        g->busy = g->wake = false;
}

static void what_its_user_has_stopped_is_placed_nowhere(void **state)
{
        set("placement", "null");
        g->runs = false;
        world.each = its_user_stops_it;
        assert_in_range(run(), 1, 2000);
        assert_string_equal(field("placement"), "null");
        assert_string_equal(fixture.looks, "");
}

static void its_user_stops_it_on_its_way(void)
{
        set("wanted", "\"stopped\"");
}

static void nor_waited_for_where_it_was_to_move(void **state)
{
        world.each = its_user_stops_it_on_its_way;
        assert_in_range(run(), 1, 2000);
}

static void the_move_fails(void)
{
        if (strcmp(field("move.to"), "3") == 0)
                set("status", "{\"move\":{\"serial\":1,\"state\":\"failed\",\"error\":\"no\"}}");
        else if (strcmp(field("move.to"), "4") == 0)
                claimed_by(4);
}

static void a_move_that_failed_goes_to_the_next(void **state)
{
        world.each = the_move_fails;
        assert_in_range(run(), 1, 3000);
        assert_string_equal(field("move"), "{\"epoch\":1,\"serial\":2,\"to\":4}");
}

/* A minute before the end a move that still runs is cancelled, and the guest stopped. */
static void it_takes_long(void)
{
        if (g->leave)
                it_is_gone();
        if (strcmp(fixture.looks, "3:a ") == 0)
                claimed_by(3);
}

static void a_move_that_takes_too_long_is_cancelled(void **state)
{
        int64_t took;

        world.each = it_takes_long;
        took = run();
        assert_in_range(took, 180000, 182000);
        assert_int_not_equal(world.aborts, 0);
        assert_string_equal(field("placement"), "{\"epoch\":1,\"host\":3}");
}

static void at_the_end_it_is_ended_at_once(void **state)
{
        g->runs = false; /* it powers off by no means */
        assert_in_range(run(), 240000, 241000);
        assert_true(g->leave && g->leave_at_once);
        assert_string_equal(field("placement"), "absent"); /* its QEMU is here still */
}

/* Its operator wants its guests to stay: they are stopped, and start here again. */
static void a_host_in_maintenance_keeps_its_guests(void **state)
{
        fixture_set(RECORD_HOST, "2", "maintenance", "true");
        world.each = it_is_gone;
        assert_in_range(run(), 1, 2000);
        assert_true(g->leave);
        assert_string_equal(field("move"), "absent");
        assert_string_equal(field("placement"), "absent");
        assert_string_equal(fixture.looks, "");
}

static void it_has_arrived(void)
{
        if (world.steps < 10)
                return;
        fixture_guest('b');
        guests_find(fixture.ctx.guests, fixture_id('c'))->promise.arriving = false;
        world.each = NULL;
}

/* Moves to here that were admitted before go on, and what arrives by them is handed on as well. */
static void what_still_arrives_is_waited_for(void **state)
{
        fixture_claim('a', 3);
        g->runs = false;
        fixture_guest('c')->promise.arriving = true;
        world.each = it_has_arrived;
        assert_in_range(run(), 1800, 2400);
        assert_string_equal(fixture.events, "");
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, fixture_end)
        const struct CMUnitTest tests[] = {
            test(one_that_runs_moves_alive),
            test(nothing_is_handed_on_where_nobody_wants_that),
            test(one_that_cannot_move_is_stopped_and_then_placed),
            test(who_cannot_start_it_is_no_target),
            test(what_its_user_has_stopped_is_placed_nowhere),
            test(nor_waited_for_where_it_was_to_move),
            test(a_move_that_failed_goes_to_the_next),
            test(a_move_that_takes_too_long_is_cancelled),
            test(at_the_end_it_is_ended_at_once),
            test(a_host_in_maintenance_keeps_its_guests),
            test(what_still_arrives_is_waited_for),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
