/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/preflight.h"

static const struct preflight_view well = {.trusted = true,
                                           .libvirt = true,
                                           .bridge = "br0",
                                           .bridge_there = true,
                                           .uplink_good = true,
                                           .accel = "kvm",
                                           .guest_accel = "kvm",
                                           .tls = true,
                                           .source_tls = true};

static void yes(void **state)
{
        struct preflight p;

        preflight_check(&well, &p);
        preflight_admission(&p, 0, "");
        assert_int_equal(p.n, 0);
}

static void expect(const struct preflight_view *v, const char *code, const char *message)
{
        struct preflight p;

        preflight_check(v, &p);
        assert_int_equal(p.n, 1);
        assert_string_equal(p.problems[0].code, code);
        assert_string_equal(p.problems[0].message, message);
}

static void each_reason_alone_is_named(void **state)
{
        struct preflight_view v = well;

        v.trusted = false;
        expect(&v, "storage", "its heartbeats do not reach the storage");
        v = well, v.leaving = true;
        expect(&v, "leaving", "it goes down");
        v = well, v.libvirt = false;
        expect(&v, "libvirt", "its libvirt does not answer");
        v = well, v.bridge_there = false;
        expect(&v, "network", "its bridge br0 does not exist");
        v = well, v.uplink_good = false;
        expect(&v, "network", "the uplink of its bridge br0 is dead");
        v = well, v.accel = "tcg";
        expect(&v, "accel", "the guest runs under kvm, this host offers tcg");
        v = well, v.tls_error = "no certificate";
        expect(&v, "tls", "no certificate");
        v = well, v.processes_error = "/proc: no";
        expect(&v, "leftover", "/proc: no");
        v = well, v.leftover = 4711;
        expect(&v, "leftover", "an earlier QEMU of it, process 4711, has not ended yet");
        v = well, v.survey_error = "no answer";
        expect(&v, "storage", "no answer");
        v = well, v.group_here = true;
        expect(&v, "group", "it has another instance of its group");
}

static void both_ends_mean_the_same_stream(void **state)
{
        struct preflight_view v = well;

        v.source_tls = false;
        expect(&v, "tls",
               "its hostd.conf wants migrations encrypted (migration_tls = yes), the source's hostd sends "
               "them in clear");
        v = well, v.tls = false;
        expect(&v, "tls", "its hostd.conf says migration_tls = no, the source's yes: set the same on both");
        v.source_tls = false, v.tls_error = "nobody needs it";
        struct preflight p;
        preflight_check(&v, &p);
        assert_int_equal(p.n, 0);
}

/* All that can be wrong at the same time. */
static void all_reasons_come_at_once(void **state)
{
        const struct preflight_view v = {.bridge = "br0",
                                         .leaving = true,
                                         .accel = "tcg",
                                         .guest_accel = "kvm",
                                         .source_tls = true,
                                         .leftover = 1,
                                         .processes_error = "no",
                                         .survey_error = "no",
                                         .group_here = true};
        struct preflight p;

        preflight_check(&v, &p);
        preflight_admission(&p, -ENOSPC, "host h2 has 1 GiB too little");
        assert_int_equal(p.n, 12);
        assert_string_equal(p.problems[11].code, "room");
        assert_string_equal(p.problems[11].message, "host h2 has 1 GiB too little");
}

static void what_admission_says_has_a_code(void **state)
{
        static const struct {
                int r;
                const char *code;
        } cases[] = {{-EEXIST, "group"}, {-ENOSPC, "room"}, {-EUSERS, "turn"}, {-EAGAIN, "starting"}};
        struct preflight p = {.n = 0};

        for (size_t i = 0; i < 4; i++) {
                preflight_admission(&p, cases[i].r, "why");
                assert_string_equal(p.problems[i].code, cases[i].code);
                assert_string_equal(p.problems[i].message, "why");
        }
}

/* A turn comes; whatever else is in the way does not go away by itself. */
static void only_a_turn_is_waited_for(void **state)
{
        assert_int_equal(preflight_answer(NULL, 0), PREFLIGHT_GO);
        assert_int_equal(preflight_answer((const char *[]){"turn"}, 1), PREFLIGHT_WAIT);
        assert_int_equal(preflight_answer((const char *[]){"room"}, 1), PREFLIGHT_REFUSE);
        assert_int_equal(preflight_answer((const char *[]){"turn", "tls"}, 2), PREFLIGHT_REFUSE);
        assert_int_equal(preflight_answer((const char *[]){""}, 1), PREFLIGHT_REFUSE); /* of a newer hostd */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(yes),
            cmocka_unit_test(each_reason_alone_is_named),
            cmocka_unit_test(both_ends_mean_the_same_stream),
            cmocka_unit_test(all_reasons_come_at_once),
            cmocka_unit_test(what_admission_says_has_a_code),
            cmocka_unit_test(only_a_turn_is_waited_for),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
