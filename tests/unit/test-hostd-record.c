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

#include "tests/unit/hostd-fixture.h"

/* The changes of an instance's record: what each writes, and what it leaves to others. */
#define ID fixture_id('a')

static unsigned stale; /* so many writes find that another was quicker, beginning with the next */

int __real_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                      const char *text, uint64_t *ret_version, struct err *err);
int __wrap_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                      const char *text, uint64_t *ret_version, struct err *err);
int __wrap_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                      const char *text, uint64_t *ret_version, struct err *err)
{
        if (stale > 0 && stale--)
                return err_set(err, -ESTALE, "another was quicker");
        return __real_record_put(s, kind, id, expected, text, ret_version, err);
}

static int begin(void **state)
{
        stale = 0;
        fixture_begin(state);
        fixture_instance('a', ",\"restart\":4,\"move\":{\"serial\":3,\"to\":3,\"epoch\":1}");
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

static int status(const struct guest_status *s)
{
        const struct lease mine = {.epoch = 6, .host = 2};

        return guest_record_status(&fixture.ctx, ID, s, &mine, NULL);
}

static void a_change_is_tried_again_where_others_were_quicker(void **state)
{
        stale = 49;
        assert_int_equal(status(&(struct guest_status){.state = "running"}), 0);
        assert_string_equal(field("status.state"), "\"running\"");
        stale = 50;
        assert_int_equal(status(&(struct guest_status){.state = "paused"}), -ESTALE);
        assert_string_equal(field("status.state"), "\"running\"");
        assert_int_equal(guest_record_status(&fixture.ctx, fixture_id('b'),
                                             &(struct guest_status){.state = "running"}, &(struct lease){0},
                                             NULL),
                         -ENOENT);
}

static void a_status_is_written_whole(void **state)
{
        assert_int_equal(status(&(struct guest_status){
                             .state = "failed", .reason = "r", .error = "e", .tries = 2, .next = "soon"}),
                         0);
        assert_string_equal(field("status.state"), "\"failed\"");
        assert_string_equal(field("status.reason"), "\"r\"");
        assert_string_equal(field("status.error"), "\"e\"");
        assert_string_equal(field("status.tries"), "2");
        assert_string_equal(field("status.next"), "\"soon\"");
        assert_string_equal(field("status.host"), "2");
        assert_string_equal(field("status.epoch"), "6");
        assert_string_equal(field("status.restart"), "absent");
        assert_int_equal(status(&(struct guest_status){.state = "stopped", .restarted = true}), 0);
        assert_string_equal(field("status.reason"), "null");
        assert_string_equal(field("status.error"), "null");
        assert_string_equal(field("status.tries"), "absent");
        assert_string_equal(field("status.next"), "absent");
        assert_string_equal(field("status.restart"), "4"); /* a restart that was asked for is done by it */
}

static int commit(void)
{
        return guest_record_commit(&fixture.ctx, ID, 2500000, NULL);
}

/* The time of a commit is written to the move that it was for, and only once that move is told done. */
static void what_a_commit_took_goes_to_its_own_move(void **state)
{
        set("status", "{\"move\":{\"serial\":2,\"state\":\"done\"}}"); /* the one before */
        assert_int_equal(commit(), 0);
        assert_string_equal(field("status.commit_ms"), "2.5");
        assert_string_equal(field("status.move.commit_ms"), "absent");
        set("status", "{\"move\":{\"serial\":3,\"state\":\"failed\"}}");
        assert_int_equal(commit(), 0);
        assert_string_equal(field("status.move.commit_ms"), "absent");
        set("status", "{\"move\":{\"serial\":3,\"state\":\"done\"}}");
        assert_int_equal(commit(), 0);
        assert_string_equal(field("status.move.commit_ms"), "2.5");
}

static int outcome(int64_t serial, bool done, int64_t downtime_ms)
{
        const struct move_outcome o = {
            .serial = serial, .done = done, .error = "no", .total_ms = 7, .downtime_ms = downtime_ms};

        return guest_record_move(&fixture.ctx, ID, &o, NULL);
}

static void an_outcome_has_what_the_commit_took(void **state)
{
        assert_int_equal(commit(), 0);
        set("status.waiting", "{\"serial\":3}");
        assert_int_equal(outcome(3, true, 30), 1);
        assert_string_equal(field("status.move.commit_ms"), "2.5");
        assert_string_equal(field("status.move.downtime_ms"), "30");
        assert_string_equal(field("status.move.total_ms"), "7");
        assert_string_equal(field("status.move.error"), "null");
        assert_string_equal(field("status.waiting"), "absent");
        assert_int_equal(outcome(4, false, 30), 1);
        assert_string_equal(field("status.move.commit_ms"), "absent");
        assert_string_equal(field("status.move.downtime_ms"), "null"); /* nothing stood still */
        assert_string_equal(field("status.move.error"), "\"no\"");
}

/* The source knows the figures; whoever has told for it did not. */
static void figures_replace_none_and_no_figures_replace_nothing(void **state)
{
        assert_int_equal(outcome(3, true, -1), 1);
        assert_string_equal(field("status.move.downtime_ms"), "null");
        assert_int_equal(outcome(3, true, 30), 0); /* it was told before, so nobody tells it twice */
        assert_string_equal(field("status.move.downtime_ms"), "30");
        assert_int_equal(outcome(3, true, -1), 0);
        assert_string_equal(field("status.move.downtime_ms"), "30");
        assert_int_equal(outcome(2, true, 99), 0);
        assert_string_equal(field("status.move.serial"), "3");
}

static void a_wait_is_written_where_it_is_news(void **state)
{
        stale = 0;
        assert_int_equal(guest_record_waiting(&fixture.ctx, ID, 3, "others come first", NULL), 0);
        assert_string_equal(field("status.waiting"), "{\"serial\":3,\"why\":\"others come first\"}");
        stale = 1000; /* nothing is written */
        assert_int_equal(guest_record_waiting(&fixture.ctx, ID, 3, "others come first", NULL), 0);
        stale = 0;
        assert_int_equal(guest_record_waiting(&fixture.ctx, ID, 3, "it takes none", NULL), 0);
        assert_string_equal(field("status.waiting.why"), "\"it takes none\"");
        assert_int_equal(guest_record_waiting(&fixture.ctx, ID, 4, "it takes none", NULL), 0);
        assert_string_equal(field("status.waiting.serial"), "4");
}

static void an_entry_says_who_goes_where_at_which_epoch(void **state)
{
        const struct lease mine = {.epoch = 6, .host = 2};
        const struct start start = {.id = "aaaaaaaa-0000-4000-8000-000000000001", .uid = 7, .gid = 8};
        struct instance i;

        set("status", "{\"waiting\":{\"serial\":3}}");
        assert_int_equal(instance_load(fixture.ctx.store, ID, &i, NULL), 0);
        assert_int_equal(guest_record_entry(&fixture.ctx, &i, &mine, "attempt", 3, &start, NULL), 0);
        instance_done(&i);
        assert_string_equal(field("migration.attempt"), "\"attempt\"");
        assert_string_equal(field("migration.source"), "2");
        assert_string_equal(field("migration.destination"), "3");
        assert_string_equal(field("migration.epoch"), "6");
        assert_int_equal(instance_load(fixture.ctx.store, ID, &i, NULL), 0);
        assert_string_equal(i.entry_start.id, start.id);
        assert_int_equal(i.entry_start.uid, 7);
        assert_int_equal(i.entry_start.gid, 8);
        instance_done(&i);
        assert_string_equal(field("status.state"), "\"migrating\"");
        assert_string_equal(field("status.waiting"), "absent");
}

static void a_start_from_the_disk_does_a_restart_and_an_arrival_does_not(void **state)
{
        const struct lease mine = {.epoch = 6, .host = 2};
        const struct start start = {.id = "aaaaaaaa-0000-4000-8000-000000000001", .uid = 7, .gid = 8};
        struct instance i;

        strcpy(fixture.self.boot, "boot");
        set("migration", "{\"attempt\":\"x\",\"start\":{\"id\":\"aaaaaaaa-0000-4000-8000-000000000001\"}}");
        set("status", "{\"commit_ms\":1}");
        for (int fresh = 0; fresh < 2; fresh++) {
                assert_int_equal(instance_load(fixture.ctx.store, ID, &i, NULL), 0);
                assert_int_equal(guest_record_start(&fixture.ctx, &i, &start, &mine, fresh, NULL, NULL), 0);
                instance_done(&i);
                assert_string_equal(field("status.restart"), fresh ? "4" : "absent");
        }
        assert_string_equal(field("arrived"), "\"x\"");
        assert_string_equal(field("start.host"), "2");
        assert_string_equal(field("start.epoch"), "6");
        assert_string_equal(field("start.boot"), "\"boot\"");
        assert_string_equal(field("status.state"), "\"running\"");
        assert_string_equal(field("status.commit_ms"), "absent"); /* of an earlier run */
}

/* A record that says nonsense of what it takes to run it is damaged: better none than a wrong one. */
static void a_damaged_record_is_none(void **state)
{
        struct instance i;

        set("cpus", "0");
        assert_int_equal(instance_load(fixture.ctx.store, ID, &i, NULL), -EBADMSG);
        set("cpus", "1");
        set("memory", "0");
        assert_int_equal(instance_load(fixture.ctx.store, ID, &i, NULL), -EBADMSG);
        set("memory", "1048576");
        set("wanted", "\"off\"");
        assert_int_equal(instance_load(fixture.ctx.store, ID, &i, NULL), -EBADMSG);
        set("wanted", "\"deleted\"");
        set("id", "\"vm\"");
        assert_int_equal(instance_load(fixture.ctx.store, ID, &i, NULL), -EBADMSG);
        set("id", "\"a1111111-1111-4111-8111-111111111111\"");
        assert_int_equal(instance_load(fixture.ctx.store, ID, &i, NULL), 0);
        assert_int_equal(i.wanted, WANTED_DELETED);
        instance_done(&i);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, fixture_end)
        const struct CMUnitTest tests[] = {
            test(a_change_is_tried_again_where_others_were_quicker),
            test(a_status_is_written_whole),
            test(what_a_commit_took_goes_to_its_own_move),
            test(an_outcome_has_what_the_commit_took),
            test(figures_replace_none_and_no_figures_replace_nothing),
            test(a_wait_is_written_where_it_is_news),
            test(an_entry_says_who_goes_where_at_which_epoch),
            test(a_start_from_the_disk_does_a_restart_and_an_arrival_does_not),
            test(a_damaged_record_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
