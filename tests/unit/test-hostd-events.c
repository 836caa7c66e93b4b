/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/log.h"
#include "hostd/events.h"
#include "hostd/record.h"

/* hostd writes its events in order and keeps the newest. It loses none while the storage is away. */
static struct context ctx;
static struct config config;
static atomic_bool away;      /* the storage */
static atomic_uint not_taken; /* writes that it did not take */

int __real_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                      const char *text, uint64_t *ret_version, struct err *err);
int __wrap_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                      const char *text, uint64_t *ret_version, struct err *err);
int __wrap_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                      const char *text, uint64_t *ret_version, struct err *err)
{
        if (away) {
                not_taken++;
                return err_set(err, -ETIMEDOUT, "the storage is away");
        }
        return __real_record_put(s, kind, id, expected, text, ret_version, err);
}

static int begin(void **state)
{
        static char name[] = "h7";

        log_level(LOG_WARNING); /* each event is in the log, too */
        config.name = name;
        ctx = (struct context){.config = &config, .number = 7};
        away = false;
        not_taken = 0;
        assert_int_equal(store_open("mem:", NULL, &ctx.store, NULL), 0);
        assert_int_equal(store_prepare(ctx.store, NULL), 0);
        return events_new(&ctx, &ctx.events, NULL);
}

static int end(void **state)
{
        events_free(ctx.events);
        return store_close(ctx.store) ? -1 : 0;
}

static json_t *record(void)
{
        json_t *doc = NULL;

        record_load(ctx.store, RECORD_EVENT, "host-7", &doc, NULL, NULL);
        return doc;
}

static void add(unsigned from, unsigned to)
{
        for (unsigned i = from; i <= to; i++)
                event_add(&ctx, "kind", NULL, NULL, "number %u", i);
}

/* Ends the thread, which writes what is left. */
static json_t *ended(void)
{
        ctx.events = events_free(ctx.events);
        return record();
}

static void assert_numbers(const json_t *doc, unsigned first, unsigned last)
{
        const json_t *list = json_object_get(doc, "events");
        char text[32];

        assert_int_equal(json_array_size(list), last - first + 1);
        for (unsigned i = first; i <= last; i++) {
                const json_t *event = json_array_get(list, i - first);

                snprintf(text, sizeof(text), "number %u", i);
                assert_string_equal(json_get_str(event, "text", ""), text);
                assert_int_equal(json_get_int(event, "serial", 0), i);
        }
        assert_int_equal(json_get_int(doc, "serial", 0), last);
}

static void an_event_says_who_what_and_where(void **state)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;
        const json_t *event;

        event_add(&ctx, "instance-off", "id", "vm", "the guest %s itself off", "powered");
        doc = ended();
        event = json_array_get(json_object_get(doc, "events"), 0);
        assert_string_equal(json_get_str(event, "kind", ""), "instance-off");
        assert_string_equal(json_get_str(event, "instance", ""), "id");
        assert_string_equal(json_get_str(event, "name", ""), "vm");
        assert_string_equal(json_get_str(event, "host", ""), "h7");
        assert_string_equal(json_get_str(event, "text", ""), "the guest powered itself off");
        assert_string_not_equal(json_get_str(event, "at", ""), "");
}

static void the_newest_are_kept_in_order(void **state)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;

        add(1, 256);
        ctx.events = events_free(ctx.events);
        doc = record();
        assert_numbers(doc, 1, 256);
        json_decref(doc);
        assert_int_equal(events_new(&ctx, &ctx.events, NULL), 0); /* the next hostd goes on */
        add(257, 300);
        doc = ended();
        assert_numbers(doc, 45, 300);
}

/* Until the thread has tried. */
static void wait_for_a_failure(void)
{
        for (unsigned i = 0; i < 2000 && not_taken == 0; i++)
                poll(NULL, 0, 5);
        assert_int_not_equal(not_taken, 0);
}

static void wait_for_serial(int64_t serial)
{
        for (unsigned i = 0; i < 2000; i++) {
                _cleanup_(json_decrefpp) json_t *doc = record();

                if (json_get_int(doc, "serial", 0) >= serial)
                        return;
                poll(NULL, 0, 5);
        }
        fail_msg("serial %lld was not written", (long long)serial);
}

static void what_the_storage_does_not_take_is_written_later(void **state)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;

        add(1, 3);
        wait_for_serial(3);
        away = true;
        add(4, 6);
        wait_for_a_failure();
        add(7, 9);
        away = false;
        wait_for_serial(9);
        doc = ended();
        assert_numbers(doc, 1, 9);
}

static void beyond_a_thousand_the_newest_are_dropped(void **state)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;

        away = true;
        add(1, 1100);
        wait_for_a_failure();
        away = false;
        wait_for_serial(1024);
        doc = ended();
        assert_numbers(doc, 1024 - 255, 1024);
}

static void an_end_waits_for_no_storage(void **state)
{
        away = true;
        add(1, 3);
        wait_for_a_failure();
        assert_null(ended());
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(an_event_says_who_what_and_where),
            test(the_newest_are_kept_in_order),
            test(what_the_storage_does_not_take_is_written_later),
            test(beyond_a_thousand_the_newest_are_dropped),
            test(an_end_waits_for_no_storage),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
