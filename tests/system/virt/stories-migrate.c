/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "tests/system/virt/lab.h"
#include "tests/system/virt/stories.h"

/* What the source's QEMU said when the destination's gate was asked. */
struct commit {
        struct guest *guest;
        char migrate[32], status[32];
        bool refuse_source, refuse_destination;
};

/* Host 1 is the source, 2 the destination: the first answer of each kind is the protocol's (claim, point the
 * link). */
static int move_hook(struct lab *l, int host, const struct gate_request *req, struct err *err)
{
        struct commit *c = l->hook_arg;

        if (req->question != GATE_ACQUIRE)
                return 0;
        if (host == 2 && c->guest->qmp) {
                guest_query(c->guest, 1, "query-migrate", "status", c->migrate);
                guest_query(c->guest, 1, "query-status", "status", c->status);
        }
        if (host == 2 ? c->refuse_destination : c->refuse_source)
                return err_set(err, -EACCES, "host %d has lost it", host);
        guest_claim(c->guest, host);
        return 0;
}

void migration_asks_in_order_and_commits_after_the_source_is_done(void **state)
{
        struct guest g;
        struct commit c = {.guest = &g};
        struct virt_progress p = {0};
        struct err err = {0};
        int release, commit, resumed, stopped;
        int64_t begin;

        lab_reset(NULL, NULL);
        guest_make(&g, "move");
        g.qmp = true;
        g.extra = 1;
        assert_ok(guest_start(&g, 1, &err), &err);
        assert_true(guest_ticks(&g, 1, 3, 15000));

        lab_reset(move_hook, &c);
        begin = clock_ms();
        assert_ok(guest_move(&g, 1, 2, &p, &err), &err);
        printf("    MEASURED migration: total %d ms, libvirt's elapsed %d ms, downtime %d ms, %d KiB\n",
               (int)(clock_ms() - begin), (int)p.elapsed_ms, (int)p.downtime_ms,
               (int)(p.transferred / 1024));
        release = mark_wait(0, MARK_QUESTION, 1, GATE_RELEASE, NULL, 0);
        commit = mark_wait(0, MARK_QUESTION, 2, GATE_ACQUIRE, NULL, 0);
        resumed = mark_wait(0, MARK_EVENT, 2, VIRT_RESUMED, "migrated", 2000);
        stopped = mark_wait(0, MARK_EVENT, 1, VIRT_STOPPED, "migrated", 5000);
        mark_wait(0, MARK_EVENT, 1, VIRT_JOB_ENDED, "completed", 2000);
        marks_print();
        assert_true(release >= 0 && commit > release && resumed > commit && stopped > commit);
        assert_int_equal(mark_count(MARK_QUESTION, 1, GATE_ACQUIRE), 0);
        /* docs/ownership.md, migration 5: the destination hears of success after the source's job is over. */
        assert_string_equal(c.migrate, "completed");
        assert_string_equal(c.status, "postmigrate");
        assert_true(mark_wait(0, MARK_EVENT, 1, VIRT_JOB_ENDED, "completed", 0) >= 0);
        assert_true(p.transferred > 0 && p.elapsed_ms > 0);
        qemu_wait(1, g.id, false, 5000);
        assert_true(guest_ticks(&g, 2, 5, 5000)); /* writes, under the claimed name */
        assert_ok(virt_kill(lab->hosts[2].virt, g.id, &err), &err);
        guest_remove(&g);
}

void refused_destination_leaves_the_source_running(void **state)
{
        struct guest g;
        struct commit c = {.guest = &g, .refuse_destination = true};
        struct err err = {0};
        int refused, again;

        lab_reset(NULL, NULL);
        guest_make(&g, "refused");
        assert_ok(guest_start(&g, 1, &err), &err);
        assert_true(guest_ticks(&g, 1, 3, 15000));
        lab_reset(move_hook, &c);
        assert_true(guest_move(&g, 1, 2, NULL, &err) < 0);
        printf("    %s\n", err_text(&err));
        assert_non_null(strstr(err_text(&err), "wherry: host 2 has lost it"));
        refused = mark_wait(0, MARK_QUESTION, 2, GATE_ACQUIRE, NULL, 0);
        again = mark_wait(0, MARK_QUESTION, 1, GATE_ACQUIRE, NULL, 2000);
        marks_print();
        assert_true(refused >= 0 && again > refused);
        qemu_wait(2, g.id, false, 5000);
        assert_true(guest_ticks(&g, 1, 5, 5000));
        assert_ok(virt_kill(lab->hosts[1].virt, g.id, &err), &err);
        guest_remove(&g);
}

void both_refused_leaves_nobody_running(void **state)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        struct guest g;
        struct commit c = {.guest = &g, .refuse_destination = true, .refuse_source = true};
        struct err err = {0};
        size_t n = 0;

        lab_reset(NULL, NULL);
        guest_make(&g, "both");
        assert_ok(guest_start(&g, 1, &err), &err);
        assert_true(guest_ticks(&g, 1, 3, 15000));
        lab_reset(move_hook, &c);
        assert_true(guest_move(&g, 1, 2, NULL, &err) < 0);
        assert_true(mark_wait(0, MARK_QUESTION, 1, GATE_ACQUIRE, NULL, 2000) >= 0);
        qemu_wait(2, g.id, false, 5000);
        assert_ok(virt_list(lab->hosts[1].virt, &list, &n, &err), &err);
        assert_int_equal(n, 1);
        assert_false(list[0].running); /* for hostd to kill */
        assert_false(guest_ticks(&g, 1, 1, 500));
        assert_ok(virt_kill(lab->hosts[1].virt, g.id, &err), &err);
        guest_remove(&g);
}

/* The text of host's domain between two marks. */
static char *xml_part(const struct guest *g, int host, const char *from, const char *to)
{
        struct err err = {0};
        _cleanup_(freep) char *xml = NULL;
        char *start, *end;

        assert_ok(virt_xml(lab->hosts[host].virt, g->id, &xml, &err), &err);
        start = strstr(xml, from);
        end = start ? strstr(start, to) : NULL;
        assert_non_null(end);
        return strndup(start, (size_t)(end - start));
}

void guest_of_an_older_hostd_moves_to_a_screen_of_its_own(void **state)
{
        _cleanup_(freep) char *before = NULL, *there = NULL, *back = NULL;
        struct guest g;
        struct commit c = {.guest = &g};
        struct err err = {0};

        lab_reset(NULL, NULL);
        guest_make(&g, "screen");
        g.screen_on_tcp = true;
        assert_ok(guest_start(&g, 1, &err), &err);
        assert_true(guest_ticks(&g, 1, 3, 15000));
        before = xml_part(&g, 1, "<graphics", "</graphics>");
        assert_non_null(strstr(before, "127.0.0.1"));
        g.screen_on_tcp = false;
        lab_reset(move_hook, &c);
        assert_ok(guest_move(&g, 1, 2, NULL, &err), &err);
        assert_true(guest_ticks(&g, 2, 3, 15000));
        there = xml_part(&g, 2, "<graphics", "</graphics>");
        assert_null(strstr(there, "127.0.0.1"));
        assert_non_null(strstr(there, "<listen type='socket' socket='/"));
        assert_ok(guest_move(&g, 2, 1, NULL, &err), &err);
        assert_true(guest_ticks(&g, 1, 3, 15000));
        back = xml_part(&g, 1, "<graphics", "</graphics>");
        assert_non_null(strstr(back, "<listen type='socket' socket='/"));
        lab_kill_all();
        guest_remove(&g);
}

/* Why the domain names a link: QEMU opens the path again after the gate has renamed the folder. */
void disk_opened_by_name_dies_of_the_claim_and_by_link_lives(void **state)
{
        struct guest g;
        struct commit c = {.guest = &g};
        struct err err = {0};

        lab_reset(NULL, NULL);
        guest_make(&g, "direct");
        g.direct = true;
        assert_ok(guest_start(&g, 1, &err), &err);
        assert_true(guest_ticks(&g, 1, 3, 15000));
        lab_reset(move_hook, &c);
        assert_true(guest_move(&g, 1, 2, NULL, &err) < 0);
        printf("    %s\n", err_text(&err));
        lab_kill_all();
        guest_remove(&g);
        /* With a link: migration_asks_in_order_and_commits_after_the_source_is_done. */
}
