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

#include "hostd/ready.h"
#include "tests/unit/hostd-fixture.h"

/*
 * What a host says of itself in its record. A write whose answer was lost may still land: after the host is well again,
 * where that is the worst.
 */
static struct {
        bool lose; /* the next write has no answer, and is on its way until land() */
        struct store *store;
        char id[16], *text;
        uint64_t version;
} put;

int __real_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t version,
                      const char *text, uint64_t *ret_version, struct err *err);
int __wrap_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t version,
                      const char *text, uint64_t *ret_version, struct err *err);

int __wrap_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t version,
                      const char *text, uint64_t *ret_version, struct err *err)
{
        if (!put.lose)
                return __real_record_put(s, kind, id, version, text, ret_version, err);
        put.lose = false;
        put.store = s;
        put.text = strdup(text);
        put.version = version;
        snprintf(put.id, sizeof(put.id), "%s", id);
        return err_set(err, -ETIMEDOUT, "the storage did not answer");
}

/* The lost write reaches the storage now, if nothing was written since it began. */
static void land(void)
{
        uint64_t version;

        assert_non_null(put.text);
        (void)__real_record_put(put.store, RECORD_HOST, put.id, put.version, put.text, &version, NULL);
}

static const char *cannot_start(void)
{
        return fixture_field(RECORD_HOST, "2", "cannot_start");
}

static void libvirt_answers(bool yes)
{
        fixture.self.virt_connected = yes;
        ready_tell(&fixture.ctx);
}

static void a_late_word_that_it_can_start_nothing_does_not_stay(void **state)
{
        libvirt_answers(true);
        put.lose = true;
        libvirt_answers(false);
        libvirt_answers(true);
        land();
        assert_string_equal(cannot_start(), "null");
}

static void a_late_word_that_it_can_start_again_does_not_stay(void **state)
{
        libvirt_answers(false);
        put.lose = true;
        libvirt_answers(true);
        libvirt_answers(false);
        land();
        assert_string_equal(cannot_start(), "\"its libvirt does not answer\"");
}

/* For 20 s no list of the hosts comes. Of that the record hears when the next list has come. */
static void list_comes_with_the_lost_word(struct fixture *f, int ms)
{
        f->self.own_write_ms = f->now_ms;
        if (put.text)
                f->ring.listed_ms = f->now_ms;
        f->self.quit = f->now_ms >= 1060000;
}

static void a_late_word_that_it_is_blind_does_not_stay(void **state)
{
        put.lose = true;
        fixture.on_poll = list_comes_with_the_lost_word;
        sight_main(&fixture.ctx);
        assert_string_equal(fixture.events, "host-blind host-sees ");
        land();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "blind"), "absent");
}

static int begin(void **state)
{
        fixture_begin(state);
        memset(&put, 0, sizeof(put));
        strcpy(fixture.ctx.nonce, "this-run");
        fixture_host(2, "up", 1, ",\"nonce\":\"this-run\"");
        return 0;
}

static int end(void **state)
{
        free(put.text);
        put.text = NULL;
        return fixture_end(state);
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
        const struct CMUnitTest tests[] = {
            test(a_late_word_that_it_can_start_nothing_does_not_stay),
            test(a_late_word_that_it_can_start_again_does_not_stay),
            test(a_late_word_that_it_is_blind_does_not_stay),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
