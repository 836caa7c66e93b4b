/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/util.h"
#include "migrate/takeover.h"

/* Host 1 is the dead one, host 2 takes it over. */

static json_t *doc;

static void record(const char *text)
{
        json_decref(doc);
        assert_int_equal(json_parse(text, "record", &doc, NULL), 0);
}

static int done(void **state)
{
        json_decref(doc);
        doc = NULL;
        return 0;
}

static const char *field(const char *path)
{
        static char text[256];
        char *j = json_dumps(json_path(doc, path), JSON_ENCODE_ANY | JSON_COMPACT);

        snprintf(text, sizeof(text), "%s", j ? j : "absent");
        free(j);
        return text;
}

/* --- a look --- */

static const struct watch still = {
    .epoch = 5, .seen = true, .counter = 9, .changed_ms = 1000, .asked_ms = 3000, .looked_ms = 3001};
static const struct homecoming here = {0};

static void a_silent_host_is_taken_or_let_be(void **state)
{
        struct watch w = still;
        struct homecoming home = {.returning = true, .joined_ms = 0};
        struct takeover_look l = {
            .watch = &w, .home = &here, .own_write_ms = 2900, .now_ms = 3002, .fence_holds = true};

        assert_int_equal(takeover_look(&l), TAKEOVER_TAKE);
        l.maintenance = true;
        assert_int_equal(takeover_look(&l), TAKEOVER_LET_BE);
        l.maintenance = false, l.home = &home; /* it was not seen alive since this host came back */
        assert_int_equal(takeover_look(&l), TAKEOVER_LET_BE);
        l.home = &here, l.fence_holds = false;
        assert_int_equal(takeover_look(&l), TAKEOVER_WATCH);
        l.fence_holds = true, l.own_write_ms = 1000; /* we see no better ourselves */
        assert_int_equal(takeover_look(&l), TAKEOVER_WATCH);
        l.own_write_ms = 2900, l.disarmed_ms = 1;
        assert_int_equal(takeover_look(&l), TAKEOVER_WATCH);
}

/* --- the host's record --- */

static struct takeover_claim claim(void)
{
        return (struct takeover_claim){.me = 2,
                                       .my_epoch = 3,
                                       .watch = &still,
                                       .own_write_ms = 2900,
                                       .now_ms = 3002,
                                       .detect_ms = 2002,
                                       .last_beat = "then",
                                       .now_text = "now"};
}

static void expect_left(const char *text)
{
        struct takeover_claim c = claim();

        record(text);
        assert_int_equal(takeover_edit_host(doc, &c, NULL), 0);
        assert_false(c.won);
        assert_string_equal(field("taken"), "absent");
}

static void its_record_is_won_once(void **state)
{
        struct takeover_claim c = claim();

        record("{\"state\":\"up\",\"epoch\":5}");
        assert_int_equal(takeover_edit_host(doc, &c, NULL), 1);
        assert_true(c.won && c.epoch == 5);
        assert_string_equal(field("state"), "\"dead\"");
        assert_string_equal(field("epoch"), "6");
        assert_string_equal(field("taken"), "{\"by\":2,\"epoch\":3,\"done\":false,\"last_beat_ms\":2002,"
                                            "\"last_beat\":\"then\",\"at\":\"now\"}");
        c = claim();
        assert_int_equal(takeover_edit_host(doc, &c, NULL), 0); /* another's try */
        assert_false(c.won);
        assert_int_equal(c.epoch, 6);
}

static void the_record_decides_not_the_list(void **state)
{
        struct takeover_claim c = claim();

        expect_left("{\"state\":\"up\",\"epoch\":6}"); /* it has joined again */
        expect_left("{\"state\":\"dead\",\"epoch\":5}");
        expect_left("{\"state\":\"up\",\"epoch\":5,\"maintenance\":true}");
        expect_left("{\"state\":\"stopped\",\"epoch\":5,\"disarmed_ms\":60000}"); /* in order, meanwhile */
        record("{\"state\":\"stopped\",\"epoch\":5,\"disarmed_ms\":0}");
        assert_int_equal(takeover_edit_host(doc, &c, NULL), 1);
        record("{\"state\":\"up\",\"epoch\":5,\"disarmed_ms\":60000}"); /* of an earlier end */
        assert_int_equal(takeover_edit_host(doc, &c, NULL), 1);
        c.now_ms = 5000; /* our own writes have stopped since */
        record("{\"state\":\"up\",\"epoch\":5}");
        assert_int_equal(takeover_edit_host(doc, &c, NULL), 0);
}

static void the_end_is_noted_of_the_death_that_was_worked_on(void **state)
{
        record("{\"state\":\"dead\",\"epoch\":6,\"taken\":{\"by\":2,\"done\":false}}");
        assert_int_equal(takeover_edit_done(doc, 5), 0);
        assert_int_equal(takeover_edit_done(doc, 6), 1);
        assert_string_equal(field("taken.done"), "true");
        assert_int_equal(takeover_edit_done(doc, 6), 0);
        record("{\"state\":\"up\",\"epoch\":6,\"taken\":{\"by\":2,\"done\":false}}");
        assert_int_equal(takeover_edit_done(doc, 6), 0);
        record("{\"state\":\"dead\",\"epoch\":6}");
        assert_int_equal(takeover_edit_done(doc, 6), 0);
}

static void the_winner_or_its_heir_works(void **state)
{
        struct ring_host hosts[] = {
            {.number = 1, .state = HOST_DEAD, .taken_by = 2}, {.number = 2}, {.number = 3}};

        assert_true(takeover_mine(hosts, 3, &hosts[0], 2));
        assert_false(takeover_mine(hosts, 3, &hosts[0], 3));
        hosts[1].state = HOST_DEAD, hosts[1].taken_by = 3;
        assert_true(takeover_mine(hosts, 3, &hosts[0], 3));
        hosts[0].state = HOST_UP;
        assert_false(takeover_mine(hosts, 3, &hosts[0], 3));
}

/* --- what is to be done --- */

static void what_is_the_dead_hosts(void **state)
{
        struct takeover_instance in = {.owner = 1};

        assert_int_equal(takeover_share(&in, 1), TAKEOVER_PLACE);
        assert_true(takeover_stranded(&in, 1));
        in.placement = 1; /* it has not claimed it again */
        assert_int_equal(takeover_share(&in, 1), TAKEOVER_PLACE);
        in.owner = 0; /* nobody's yet, and meant for it */
        assert_int_equal(takeover_share(&in, 1), TAKEOVER_PLACE);
        in.owner = 3;
        assert_int_equal(takeover_share(&in, 1), TAKEOVER_PLACE);
        in.placement = 0;
        assert_int_equal(takeover_share(&in, 1), TAKEOVER_NONE);
        assert_false(takeover_stranded(&in, 1));
        in.owner = 0;
        assert_int_equal(takeover_share(&in, 1), TAKEOVER_NONE);
}

static void what_was_placed_elsewhere_gets_its_time_from_a_living_host_only(void **state)
{
        struct takeover_instance in = {.owner = 1, .placement = 3, .placement_up = true};

        assert_int_equal(takeover_share(&in, 1), TAKEOVER_AWAIT);
        assert_false(takeover_stranded(&in, 1));
        in.placement_up = false;
        assert_int_equal(takeover_share(&in, 1), TAKEOVER_PLACE);
        in.owner = 4, in.placement_up = true;
        assert_int_equal(takeover_share(&in, 1), TAKEOVER_NONE);
}

static void what_should_stand_is_claimed_until_its_record_says_so(void **state)
{
        struct takeover_instance in = {.owner = 1, .wanted = WANTED_STOPPED};

        assert_int_equal(takeover_share(&in, 1), TAKEOVER_PLACE);
        in.told_off = true;
        assert_int_equal(takeover_share(&in, 1), TAKEOVER_NONE);
        in.wanted = WANTED_DELETED, in.told_off = false; /* imaged's to remove */
        assert_int_equal(takeover_share(&in, 1), TAKEOVER_NONE);
}

/* --- the instance's record --- */

static const struct failover_item item = {
    .epoch = 7, .target = 3, .tries = 1, .refused = {4}, .reason = "no room"};
static const struct takeover_placing placing = {
    .dead = 1, .me = 2, .detect_ms = 2002, .plan_ms = 8, .last_beat = "then", .item = &item};

static void a_placement_says_where_and_why(void **state)
{
        record("{\"wanted\":\"running\",\"placement\":{\"host\":1,\"epoch\":0,\"fixed\":true}}");
        assert_int_equal(takeover_edit_place(doc, &placing, NULL), 1);
        assert_string_equal(
            field("placement"),
            "{\"host\":3,\"epoch\":7,\"failover\":{\"from\":1,\"by\":2,\"last_beat\":\"then\","
            "\"last_beat_ms\":2002,\"detect_ms\":2002,\"plan_ms\":8,\"tries\":0,\"tried\":[4]}}");
        assert_string_equal(field("wanted"), "\"running\"");
}

static void a_failure_is_written_over_the_dead_hosts_word_only(void **state)
{
        record(
            "{\"status\":{\"state\":\"restarting\",\"tries\":2,\"next\":\"soon\",\"host\":1,\"epoch\":7}}");
        assert_int_equal(takeover_edit_failed(doc, &placing), 1);
        assert_string_equal(field("status.tries"), "absent");
        assert_string_equal(field("status.next"), "absent");
        assert_string_equal(field("status.state"), "\"failed\"");
        assert_string_equal(
            field("status.error"),
            "\"not restarted yet after the loss of host 1, tried again every 5 s: no room\"");
        record("{\"status\":{\"state\":\"running\",\"host\":1,\"epoch\":8}}");
        assert_int_equal(takeover_edit_failed(doc, &placing), 0);
        record("{\"status\":{\"state\":\"running\",\"host\":3,\"epoch\":7}}");
        assert_int_equal(takeover_edit_failed(doc, &placing), 0);
        record("{}");
        assert_int_equal(takeover_edit_failed(doc, &placing), 0);
}

int main(void)
{
#define test(f) cmocka_unit_test_teardown(f, done)
        const struct CMUnitTest tests[] = {
            test(a_silent_host_is_taken_or_let_be),
            test(its_record_is_won_once),
            test(the_record_decides_not_the_list),
            test(the_end_is_noted_of_the_death_that_was_worked_on),
            test(the_winner_or_its_heir_works),
            test(what_is_the_dead_hosts),
            test(what_was_placed_elsewhere_gets_its_time_from_a_living_host_only),
            test(what_should_stand_is_claimed_until_its_record_says_so),
            test(a_placement_says_where_and_why),
            test(a_failure_is_written_over_the_dead_hosts_word_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
