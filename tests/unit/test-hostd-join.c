/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/machine.h"
#include "hostd/ring/ring.h"
#include "tests/unit/hostd-fixture.h"

/* A host's record: what a join makes of it, and what an orderly end may change. */
static int begin(void **state)
{
        static char listen[] = "10.0.0.2:7070", address[] = "10.0.0.2", peer_uri[] = "qemu+tls://h2/system";

        fixture_begin(state);
        fixture.config.listen = listen;
        fixture.config.address = address;
        fixture.config.peer_uri = peer_uri;
        strcpy(fixture.ctx.nonce, "this-run");
        return 0;
}

static bool made_by_another; /* the next record that is put is: another hostd of this name was quicker */

int __real_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                      const char *text, uint64_t *ret_version, struct err *err);
int __wrap_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                      const char *text, uint64_t *ret_version, struct err *err);
int __wrap_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                      const char *text, uint64_t *ret_version, struct err *err)
{
        if (made_by_another)
                assert_int_equal(__real_record_put(s, kind, id, expected, text, NULL, NULL), 0);
        made_by_another = false;
        return __real_record_put(s, kind, id, expected, text, ret_version, err);
}

static int join(bool first)
{
        struct err err = {0};

        int r = first ? ring_enter(&fixture.ctx, &err) : 0;

        return r < 0 ? r : ring_join(&fixture.ctx, &err);
}

static void the_first_join_of_all_makes_the_record(void **state)
{
        assert_int_equal(join(true), 0);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "1");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "state"), "\"up\"");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "name"), "\"me\"");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "nonce"), "\"this-run\"");
        assert_int_equal(fixture.self.epoch, 1);
        assert_string_equal(fixture.events, "host-joined ");
}

static void each_join_is_a_new_epoch(void **state)
{
        fixture_host(2, "dead", 7,
                     ",\"taken\":{\"by\":3,\"done\":true},\"drained\":true,\"disarmed_ms\":60000,\"blind\":["
                     "{\"host\":3}]");
        fixture_set(RECORD_HOST, "2", "name", "\"me\"");
        assert_int_equal(join(true), 0);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "8");
        assert_int_equal(fixture.self.epoch, 8);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "taken"), "absent");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "drained"), "true"); /* an operator's */
        assert_string_equal(fixture_field(RECORD_HOST, "2", "blind"), "absent"); /* of the run before */
        fixture_set(RECORD_HOST, "2", "blind", "[{\"host\":4}]");
        assert_int_equal(join(false), 0); /* again, in the same run: it has not seen that host since */
        assert_string_not_equal(fixture_field(RECORD_HOST, "2", "blind"), "absent");
        fixture_set(RECORD_HOST, "2", "epoch", "8");
        fixture.self.epoch = 8;
        assert_string_equal(fixture_field(RECORD_HOST, "2", "disarmed_ms"), "0");
        assert_string_equal(fixture.events, "host-returned host-joined ");
}

static void a_number_that_is_anothers_is_refused(void **state)
{
        fixture_host(2, "up", 4, "");
        assert_int_equal(join(true), -EEXIST);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "4");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "name"), "\"h2\"");
}

static void a_host_without_a_number_takes_the_lowest(void **state)
{
        fixture_host(1, "up", 4, "");
        fixture_host(3, "up", 4, "");
        fixture.ctx.number = 0;
        assert_int_equal(join(true), 0);
        assert_int_equal(fixture.ctx.number, 2);
        fixture.ctx.number = 0; /* started anew: it finds its own again */
        assert_int_equal(join(true), 0);
        assert_int_equal(fixture.ctx.number, 2);
        assert_int_equal(fixture.self.epoch, 2);
}

/* Whoever was quicker may have the same name: the number is looked at again before the next one is tried. */
static void a_number_that_was_taken_meanwhile_may_be_its_own(void **state)
{
        fixture_host(1, "up", 4, "");
        fixture.ctx.number = 0;
        made_by_another = true;
        assert_int_equal(join(true), 0);
        assert_int_equal(fixture.ctx.number, 2);
        assert_int_equal(fixture.self.epoch, 1);
}

static int moves(struct fixture *f, unsigned host, uint64_t *ret)
{
        *ret = (uint64_t)f->now_ms / 500;
        return 0;
}

static int stands(struct fixture *f, unsigned host, uint64_t *ret)
{
        *ret = 17;
        return 0;
}

static void another_machine(void)
{
        fixture_host(2, "up", 4, ",\"nonce\":\"other\",\"boot_id\":\"b\",\"view\":\"v\",\"board\":\"m\"");
        fixture_set(RECORD_HOST, "2", "name", "\"me\"");
}

/* Two machines with one name: the one that lives keeps the number, and this one shows no life in its place. */
static void another_machine_that_lives_keeps_its_number(void **state)
{
        another_machine();
        fixture.beat_of = moves;
        assert_int_equal(join(true), -EBUSY);
        assert_null(fixture.thread); /* no heartbeat of ours */
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "4");
}

static void another_machine_that_stands_still_is_followed(void **state)
{
        int64_t begun = fixture.now_ms;

        another_machine();
        fixture.beat_of = stands;
        assert_int_equal(join(true), 0);
        assert_in_range(fixture.now_ms - begun, 3000, 3600);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "5");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "nonce"), "\"this-run\"");
}

/* It woke up between the look and the join. */
static void one_that_moves_before_the_join_is_not_followed(void **state)
{
        struct err err = {0};

        another_machine();
        fixture.beat_of = stands;
        assert_int_equal(ring_enter(&fixture.ctx, &err), 0);
        fixture.beat_of = moves;
        assert_int_equal(ring_join(&fixture.ctx, &err), -EEXIST);
        fixture.beat_of = stands;
        fixture_set(RECORD_HOST, "2", "nonce", "\"third\"");
        assert_int_equal(ring_join(&fixture.ctx, &err), -EEXIST);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "4");
}

/* The other machine slept and has joined again since, under the same nonce: its epoch tells. A take-over meanwhile does
 * not. */
static void one_that_joined_again_before_the_join_is_not_followed(void **state)
{
        struct err err = {0};

        another_machine();
        fixture.beat_of = stands;
        assert_int_equal(ring_enter(&fixture.ctx, &err), 0);
        fixture_set(RECORD_HOST, "2", "epoch", "5");
        assert_int_equal(ring_join(&fixture.ctx, &err), -EEXIST);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "nonce"), "\"other\"");
        fixture_set(RECORD_HOST, "2", "state", "\"dead\"");
        assert_int_equal(ring_join(&fixture.ctx, &err), 0);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "6");
}

static int unreadable(struct fixture *f, unsigned host, uint64_t *ret)
{
        return -ETIMEDOUT;
}

static int none(struct fixture *f, unsigned host, uint64_t *ret)
{
        return -ENOENT;
}

/* A heartbeat that cannot be read shows neither that the host lives nor that it is dead. */
static void a_heartbeat_that_cannot_be_read_is_no_death(void **state)
{
        int64_t begun = fixture.now_ms;

        another_machine();
        fixture.beat_of = unreadable;
        assert_int_equal(join(true), -ETIMEDOUT);
        assert_in_range(fixture.now_ms - begun, 20000, 20500);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "4");
        assert_null(fixture.thread);
        begun = fixture.now_ms;
        fixture.beat_of = none; /* which can be told: nobody beats */
        assert_int_equal(join(true), 0);
        assert_in_range(fixture.now_ms - begun, 3000, 3600);
}

/* The record names this very machine: an upgrade, or a hostd that was killed. */
static void this_machine(const char *more)
{
        struct machine self;
        char text[300];

        machine_self(&self);
        snprintf(text, sizeof(text),
                 ",\"nonce\":\"before\",\"boot_id\":\"%s\",\"view\":\"%s\",\"board\":\"%s\"%s", self.boot,
                 self.view, self.board, more);
        fixture_host(2, "up", 4, text);
        fixture_set(RECORD_HOST, "2", "name", "\"me\"");
}

static void a_machine_that_is_known_beats_at_once(void **state)
{
        int64_t begun = fixture.now_ms;
        struct err err = {0};

        this_machine("");
        fixture.beat_of = moves; /* its own, of a moment ago */
        assert_int_equal(ring_enter(&fixture.ctx, &err), 0);
        assert_int_equal(fixture.now_ms, begun);
        assert_non_null(fixture.thread); /* before the join: an upgrade is no death */
        assert_false(fixture.ring.home.returning);
        assert_int_equal(ring_join(&fixture.ctx, &err), 0); /* whatever its heartbeat does: it is ours */
        assert_string_equal(fixture_field(RECORD_HOST, "2", "returning"), "false");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "5");
}

static void one_that_had_not_finished_its_return_returns_still(void **state)
{
        struct err err = {0};

        this_machine(",\"returning\":true");
        assert_int_equal(ring_enter(&fixture.ctx, &err), 0);
        assert_true(fixture.ring.home.returning);
}

/* After a loss of all power it waits for the others: its record says so to them. */
static void another_start_is_a_return(void **state)
{
        another_machine();
        fixture.beat_of = stands;
        fixture_set(RECORD_HOST, "2", "returning", "false");
        assert_int_equal(join(true), 0);
        assert_true(fixture.ring.home.returning);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "returning"), "true");
        assert_int_equal(fixture.ring.home.joined_ms, fixture.now_ms);
}

static void an_orderly_end_is_written_down(void **state)
{
        assert_int_equal(join(true), 0);
        ring_leave(&fixture.ctx);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "state"), "\"stopped\"");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "disarmed_ms"), "60000");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "1");
}

/* Neither of one that was taken over meanwhile, nor by a hostd that another has followed. */
static void who_is_not_the_record_any_more_changes_nothing(void **state)
{
        assert_int_equal(join(true), 0);
        fixture_set(RECORD_HOST, "2", "epoch", "2");
        fixture_set(RECORD_HOST, "2", "state", "\"dead\"");
        ring_leave(&fixture.ctx);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "state"), "\"dead\"");
        fixture_set(RECORD_HOST, "2", "epoch", "1");
        fixture_set(RECORD_HOST, "2", "state", "\"up\"");
        fixture_set(RECORD_HOST, "2", "nonce", "\"the-next-run\"");
        ring_leave(&fixture.ctx);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "state"), "\"up\"");
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, fixture_end)
        const struct CMUnitTest tests[] = {
            test(the_first_join_of_all_makes_the_record),
            test(each_join_is_a_new_epoch),
            test(a_number_that_is_anothers_is_refused),
            test(a_host_without_a_number_takes_the_lowest),
            test(a_number_that_was_taken_meanwhile_may_be_its_own),
            test(another_machine_that_lives_keeps_its_number),
            test(another_machine_that_stands_still_is_followed),
            test(one_that_moves_before_the_join_is_not_followed),
            test(one_that_joined_again_before_the_join_is_not_followed),
            test(a_heartbeat_that_cannot_be_read_is_no_death),
            test(a_machine_that_is_known_beats_at_once),
            test(one_that_had_not_finished_its_return_returns_still),
            test(another_start_is_a_return),
            test(an_orderly_end_is_written_down),
            test(who_is_not_the_record_any_more_changes_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
