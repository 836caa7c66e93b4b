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

#include "common/clock.h"
#include "tests/unit/hostd-fixture.h"

/* A start that goes on to another host: to which, what the record says of it, and when nobody hands it on. */
#define ID fixture_id('a')

static struct guest *g;
static struct guest_look l;
static const struct err why = {.code = -EIO, .text = "QEMU has no memory"};

static int begin(void **state)
{
        fixture_begin(state);
        fixture_host(2, "up", 1, "");
        fixture_host(3, "up", 1, "");
        fixture_host(4, "up", 1, "");
        fixture_instance('a', ",\"status\":{\"state\":\"stopped\"}");
        fixture_claim('a', 2);
        g = fixture_guest('a');
        return 0;
}

static int end(void **state)
{
        guest_look_done(&l);
        memset(&l, 0, sizeof(l));
        return fixture_end(state);
}

static void set(const char *path, const char *value)
{
        fixture_set(RECORD_INSTANCE, ID, path, value);
}

static const char *field(const char *path)
{
        return fixture_field(RECORD_INSTANCE, ID, path);
}

static void looked(void)
{
        guest_look_done(&l);
        memset(&l, 0, sizeof(l));
        assert_int_equal(instance_load(fixture.ctx.store, ID, &l.instance, NULL), 0);
        assert_int_equal(lease_find(fixture.ctx.store, ID, &l.lease, NULL), 0);
        l.record = true;
        l.view = (struct instance_view){.me = 2, .epoch = l.lease.epoch, .host = l.lease.host};
}

static void hand_on(void)
{
        looked();
        guest_hand_on(g, &l, &l.lease, &why);
}

static void another_host_tries_it_next(void **state)
{
        g->backoff.failed_starts = 3;
        hand_on();
        assert_string_equal(field("placement"),
                            "{\"chain\":{\"tried\":[2],\"tries\":1},\"epoch\":1,\"host\":3}");
        assert_string_equal(field("status.tries"), "1");
        assert_string_not_equal(field("status.next"), "absent");
        assert_string_equal(field("status.state"), "\"stopped\""); /* it has not failed yet */
        assert_string_equal(fixture.looks, "3:a ");
        assert_string_equal(fixture.events, "start-handed-on ");
        assert_int_equal(g->backoff.failed_starts, 0);
}

static void who_has_tried_is_not_asked_again(void **state)
{
        set("placement", "{\"host\":2,\"epoch\":1,\"chain\":{\"tries\":1,\"tried\":[3]}}");
        hand_on();
        assert_string_equal(field("placement"),
                            "{\"chain\":{\"tried\":[3,2],\"tries\":2},\"epoch\":1,\"host\":4}");
        assert_string_equal(fixture.looks, "4:a ");
}

/* Its cause stays with it; after three failures it is told, and all are asked anew. */
static void a_failover_keeps_its_cause(void **state)
{
        set("placement", "{\"host\":2,\"epoch\":1,\"failover\":{\"from\":1,\"tries\":1,\"tried\":[3]},"
                         "\"chain\":{\"tries\":9}}");
        hand_on();
        assert_string_equal(
            field("placement"),
            "{\"epoch\":1,\"failover\":{\"from\":1,\"tried\":[3,2],\"tries\":2},\"host\":4}");
        assert_string_equal(fixture.events, "failover-retry ");
        fixture.events[0] = '\0';
        set("placement", "{\"host\":2,\"epoch\":1,\"failover\":{\"from\":1,\"tries\":2,\"tried\":[3,4]}}");
        hand_on();
        assert_string_equal(field("placement.failover"), "{\"from\":1,\"tried\":[2],\"tries\":3}");
        assert_string_equal(field("placement.host"), "3");
        assert_string_equal(fixture.events, "failover-failed ");
}

/* It is tried here again, not before the pause that this host has for it. */
static void where_nobody_else_can_its_record_says_so(void **state)
{
        char soon[CLOCK_STAMP_LEN + 1];
        json_t *doc = NULL;

        fixture_set(RECORD_HOST, "3", "state", "\"dead\"");
        fixture_set(RECORD_HOST, "4", "drained", "true");
        g->backoff.retry_ms = fixture.now_ms + 60000;
        clock_stamp_ago(-50000, soon);
        hand_on();
        assert_string_equal(field("placement.host"), "2");
        assert_string_equal(field("status.state"), "\"failed\"");
        assert_non_null(strstr(field("status.error"), "QEMU has no memory; nowhere else: "));
        assert_int_equal(record_load(fixture.ctx.store, RECORD_INSTANCE, ID, &doc, NULL, NULL), 0);
        assert_true(
            strcmp(json_string_value(json_object_get(json_object_get(doc, "status"), "next")), soon) > 0);
        json_decref(doc);
        assert_string_equal(fixture.looks, "");
        assert_string_equal(fixture.events, "");
}

static void one_of_its_group_keeps_it_away(void **state)
{
        set("group", "\"web\"");
        fixture_instance('b', ",\"group\":\"web\"");
        fixture_claim('b', 3);
        hand_on();
        assert_string_equal(field("placement.host"), "4");
}

static void nothing(const char *path, const char *value, const char *before)
{
        set("wanted", "\"running\"");
        set("placement", before);
        looked();
        set(path, value); /* meanwhile */
        guest_hand_on(g, &l, &l.lease, &why);
        assert_string_equal(fixture.looks, "");
        assert_string_equal(fixture.events, "");
        assert_string_equal(field("status.tries"), "absent");
}

static void somebody_elses_plans_come_first(void **state)
{
        const char *placed = "{\"host\":2,\"epoch\":1}";

        nothing("wanted", "\"stopped\"", placed);
        nothing("placement.host", "4", placed);
        nothing("placement.epoch", "0", placed);
        nothing("placement", placed, "{\"host\":2,\"epoch\":1,\"failover\":{\"from\":1}}");
}

static void a_name_that_was_claimed_is_handed_on_at_its_new_epoch(void **state)
{
        struct lease mine;

        looked();
        mine = fixture_claim('a', 2); /* by the start that has failed since */
        guest_hand_on(g, &l, &mine, &why);
        assert_string_equal(field("placement.epoch"), "2");
}

/* One pause for each placement, however often it is looked at. */
static void a_placement_is_put_off_once(void **state)
{
        int64_t due = fixture.now_ms + 2000;

        set("placement", "{\"host\":2,\"epoch\":1,\"chain\":{\"tries\":4}}");
        looked();
        assert_int_equal(guest_chain_pause_ms(&l), 2000);
        guest_failover_pause(g, &l);
        assert_int_equal(g->backoff.retry_ms, due);
        fixture.now_ms += 1500;
        guest_failover_pause(g, &l);
        assert_int_equal(g->backoff.retry_ms, due);
        fixture_claim('a', 2);
        set("placement", "{\"host\":2,\"epoch\":2,\"failover\":{\"tries\":3}}");
        looked();
        guest_failover_pause(g, &l);
        assert_int_equal(g->backoff.retry_ms, fixture.now_ms + 1000);
}

static void only_who_is_to_start_it_puts_it_off(void **state)
{
        set("placement", "{\"host\":3,\"epoch\":1,\"chain\":{\"tries\":4}}");
        looked();
        guest_failover_pause(g, &l);
        assert_int_equal(g->backoff.retry_ms, 0);
        set("placement", "{\"host\":2,\"epoch\":1}"); /* nobody has tried */
        looked();
        guest_failover_pause(g, &l);
        assert_int_equal(g->backoff.retry_ms, 0);
        assert_int_equal(guest_chain_pause_ms(&l), 0);
}

static void a_host_that_its_user_named_is_fixed_while_that_counts(void **state)
{
        set("placement", "{\"host\":2,\"epoch\":1,\"fixed\":true}");
        looked();
        assert_true(guest_fixed(&l));
        set("placement", "{\"host\":2,\"epoch\":1}");
        looked();
        assert_false(guest_fixed(&l));
        set("placement", "{\"host\":2,\"epoch\":1,\"fixed\":true}");
        set("start", "{\"epoch\":2}"); /* it has run since */
        fixture_claim('a', 2);
        looked();
        assert_false(guest_fixed(&l));
}

/* Where it is handed on after a failure: only a failure that the next host need not have. */
static bool goes_on(bool refused, bool claimed, const char *placement)
{
        set("placement", placement);
        looked();
        fixture.looks[0] = fixture.events[0] = '\0';
        g->tried = (struct guest_try){.refused = refused, .claimed = claimed, .at = l.lease};
        guest_start_failed(g, &l, false, &why);
        assert_non_null(strstr(field("status.error"), "QEMU has no memory"));
        return strcmp(fixture.looks, "") != 0;
}

static void which_failures_are_handed_on(void **state)
{
        const char *fixed = "{\"host\":2,\"epoch\":1,\"fixed\":true}", *plain = "{\"host\":2,\"epoch\":1}",
                   *chain = "{\"host\":2,\"epoch\":1,\"chain\":{\"tries\":1,\"tried\":[4]}}";

        assert_true(goes_on(true, false, plain)); /* no room here */
        assert_false(goes_on(true, false, fixed));
        assert_false(goes_on(false, false, plain)); /* the storage did not answer */
        assert_string_equal(fixture.events, "");    /* no news */
        assert_false(goes_on(false, true, plain));  /* it is tried here, some times */
        assert_string_equal(fixture.events, "start-failed ");
        assert_true(goes_on(false, true, chain));
        g->crashed = true;
        looked();
        g->tried = (struct guest_try){.refused = true, .at = l.lease};
        fixture.events[0] = '\0';
        guest_start_failed(g, &l, true, &why);
        assert_int_equal(strncmp(fixture.events, "start-refused ", 14), 0);
        assert_false(g->crashed);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(another_host_tries_it_next),
            test(who_has_tried_is_not_asked_again),
            test(a_failover_keeps_its_cause),
            test(where_nobody_else_can_its_record_says_so),
            test(one_of_its_group_keeps_it_away),
            test(somebody_elses_plans_come_first),
            test(a_name_that_was_claimed_is_handed_on_at_its_new_epoch),
            test(a_placement_is_put_off_once),
            test(only_who_is_to_start_it_puts_it_off),
            test(a_host_that_its_user_named_is_fixed_while_that_counts),
            test(which_failures_are_handed_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
