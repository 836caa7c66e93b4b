/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/system/virt/lab.h"
#include "tests/system/virt/stories.h"

/*
 * The rename decides: an ACQUIRE claims, and the loser hears no. Then whatever libvirt and QEMU do, at most
 * one host's vCPUs may run. `violations`: the destination was asked while the source's job had not
 * completed.
 */
struct race {
        struct guest *guest;
        int asked, violations;
        void (*at_release)(struct race *r);
        void (*before_claim)(struct race *r); /* the destination's */
        void (*after_claim)(struct race *r);
};

static int race_hook(struct lab *l, int host, const struct gate_request *req, struct err *err)
{
        struct race *r = l->hook_arg;
        char job[32], status[32];

        if (req->question == GATE_RELEASE && host == 1 && r->at_release)
                r->at_release(r);
        if (req->question != GATE_ACQUIRE)
                return 0;
        if (host == 2) {
                guest_query(r->guest, 1, "query-migrate", "status", job);
                guest_query(r->guest, 1, "query-status", "status", status);
                r->asked++;
                if (!streq(job, "completed") || !streq(status, "postmigrate")) {
                        printf("    destination asked while the source's job is \"%s\", its QEMU \"%s\"\n",
                               job, status);
                        r->violations++;
                }
                if (r->before_claim)
                        r->before_claim(r);
        }
        if (req->lease.epoch != r->guest->epoch || r->guest->owner != 1)
                return err_set(err, -ESTALE, "the name has moved on to host %d", r->guest->owner);
        guest_claim(r->guest, host);
        if (host == 2 && r->after_claim)
                r->after_claim(r);
        return 0;
}

static void start_on_1(struct guest *g, const char *name)
{
        struct err err = {0};

        lab_reset(NULL, NULL);
        guest_make(g, name);
        g->qmp = true;
        assert_ok(guest_start(g, 1, &err), &err);
        assert_true(guest_ticks(g, 1, 3, 15000));
}

static bool runs(struct guest *g, int host)
{
        char status[32];

        guest_query(g, host, "query-status", "status", status);
        return streq(status, "running");
}

struct mover {
        struct guest *guest;
        struct err err;
        int result;
};

static void *mover_run(void *arg)
{
        struct mover *m = arg;

        m->result = guest_move(m->guest, 1, 2, NULL, &m->err);
        return NULL;
}

void cancelled_migration_never_has_two_runners(void **state)
{
        static const int moments_ms[] = {40, 120, 200, 280, 340, 400};

        for (size_t i = 0; i < ARRAY_SIZE(moments_ms); i++) {
                struct guest g;
                struct race r = {.guest = &g};
                struct mover m = {.guest = &g};
                struct err err = {0};
                pthread_t t;
                bool on1, on2;

                start_on_1(&g, "cancel");
                lab_reset(race_hook, &r);
                assert_int_equal(pthread_create(&t, NULL, mover_run, &m), 0);
                usleep((useconds_t)moments_ms[i] * 1000);
                if (virt_migrate_abort(lab->hosts[1].virt, g.id, &err) < 0)
                        err.text[0] = '\0'; /* too early or too late: also a moment */
                pthread_join(t, NULL);
                on1 = runs(&g, 1), on2 = runs(&g, 2);
                printf("    abort after %d ms: %s; runs on h1: %d, h2: %d; destination asked %d\n",
                       moments_ms[i], m.result < 0 ? err_text(&m.err) : "moved", on1, on2, r.asked);
                assert_int_equal(on1 + on2, 1);
                assert_int_equal(on2, m.result == 0);
                assert_int_equal(r.violations, 0);
                if (m.result < 0)
                        assert_true(mark_wait(0, MARK_EVENT, 1, VIRT_JOB_ENDED, NULL, 0) >= 0 || !r.asked);
                lab_kill_all();
                guest_remove(&g);
        }
}

static void kill_destination(struct race *r)
{
        virt_kill_pid(lab->hosts[2].virt, qemu_pid(2, r->guest->id), r->guest->id, NULL);
        r->at_release = NULL;
}

void destination_qemu_killed_at_the_switchover(void **state)
{
        struct guest g;
        struct race r = {.guest = &g, .at_release = kill_destination};
        struct err err = {0};
        int failed, resumed;

        start_on_1(&g, "dstdies");
        lab_reset(race_hook, &r);
        assert_true(guest_move(&g, 1, 2, NULL, &err) < 0);
        printf("    %s\n", err_text(&err));
        failed = mark_wait(0, MARK_EVENT, 1, VIRT_JOB_ENDED, "failed", 3000);
        resumed = mark_wait(0, MARK_EVENT, 1, VIRT_RESUMED, NULL, 3000);
        marks_print();
        assert_int_equal(r.violations, 0);
        assert_int_equal(mark_count(MARK_QUESTION, 2, GATE_ACQUIRE), 0);
        /* QEMU goes on by itself, nobody is asked: hostd hears of the failed job and must claim (docs/ownership.md,
         * migration 5). */
        assert_true(failed >= 0 && resumed >= 0);
        assert_int_equal(mark_count(MARK_QUESTION, 1, GATE_ACQUIRE), 0);
        assert_true(guest_ticks(&g, 1, 3, 5000));
        lab_kill_all();
        guest_remove(&g);
}

static void kill_source_libvirtd(struct race *r)
{
        libvirtd_kill(1);
        r->at_release = NULL;
}

void source_libvirtd_killed_at_the_switchover(void **state)
{
        struct guest g;
        struct race r = {.guest = &g, .at_release = kill_source_libvirtd};
        struct err err = {0};
        bool on1, on2;

        start_on_1(&g, "srclibvirt");
        lab_reset(race_hook, &r);
        assert_true(guest_move(&g, 1, 2, NULL, &err) < 0);
        printf("    %s\n", err_text(&err));
        qemu_wait(2, g.id, false, 15000);
        libvirtd_start(1);
        mark_wait(0, MARK_QUESTION, 1, GATE_ACQUIRE, NULL, 3000);
        on1 = runs(&g, 1), on2 = runs(&g, 2);
        marks_print();
        printf("    runs on h1: %d, h2: %d\n", on1, on2);
        assert_int_equal(r.violations, 0);
        assert_int_equal(mark_count(MARK_QUESTION, 2, GATE_ACQUIRE), 0);
        assert_false(on2);
        /* The source runs only after it asked. */
        assert_true(!on1 || mark_count(MARK_QUESTION, 1, GATE_ACQUIRE) > 0);
        lab_kill_all();
        guest_remove(&g);
}

static void kill_destination_libvirtd(struct race *r)
{
        libvirtd_kill(2);
        /* Long enough for the source to notice, and to ask: who wins is decided by who claimed. */
        mark_wait(0, MARK_QUESTION, 1, GATE_ACQUIRE, NULL, 3000);
}

static void destination_libvirtd_killed(struct race *r, const char *name, int winner)
{
        struct guest g;
        struct err err = {0};
        bool on1, on2;

        r->guest = &g;
        start_on_1(&g, name);
        lab_reset(race_hook, r);
        assert_true(guest_move(&g, 1, 2, NULL, &err) < 0);
        printf("    %s\n", err_text(&err));
        assert_true(mark_wait(0, MARK_QUESTION, 1, GATE_ACQUIRE, NULL, 3000) >= 0);
        assert_true(mark_wait(0, MARK_QUESTION, 2, GATE_ACQUIRE, NULL, 5000) >= 0);
        on1 = runs(&g, 1), on2 = runs(&g, 2);
        marks_print();
        printf("    runs on h1: %d, h2: %d\n", on1, on2);
        assert_int_equal(r->violations, 0);
        assert_int_equal(g.owner, winner);
        assert_int_equal(on1, winner == 1);
        assert_false(on2); /* nobody was left to let it run: hostd starts it anew, under a fresh epoch */
        libvirtd_start(2);
        lab_kill_all();
        if (qemu_pid(2, g.id) > 0)
                assert_ok(virt_kill_pid(lab->hosts[2].virt, qemu_pid(2, g.id), g.id, &err), &err);
        guest_remove(&g);
}

void destination_libvirtd_killed_before_the_claim(void **state)
{
        struct race r = {.before_claim = kill_destination_libvirtd};

        destination_libvirtd_killed(&r, "dstbefore", 1);
}

void destination_libvirtd_killed_after_the_claim(void **state)
{
        struct race r = {.after_claim = kill_destination_libvirtd};

        destination_libvirtd_killed(&r, "dstafter", 2);
}
