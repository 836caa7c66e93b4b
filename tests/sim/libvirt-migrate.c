/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

/*
 * A live migration, peer to peer. On the source's libvirtd: begin, perform, confirm; on the destination's:
 * prepare, finish. What matters, and is so on libvirt 9.0:
 *
 *   perform   the vCPUs stop, RELEASE, then either the job fails and QEMU lets the source run again by
 * itself, asking nobody; or everything was sent (COMPLETED), and it never runs again by itself finish only
 * after COMPLETED: ACQUIRE at the destination, then its vCPUs run, or it is killed confirm   the destination
 * runs: the source is killed; it does not, or cannot be heard: ACQUIRE, run again
 */
struct migration {
        struct qemu *source, *destination;
        struct host *from, *to;
        struct proc *source_libvirtd, *libvirtd;
        enum { M_PREPARE, M_PREPARED, M_FINISH, M_CANCEL } asked;
        bool over, runs;
        uint64_t memory_n;
        char *xml;
};

static bool connected(const struct migration *m)
{
        return m->from->libvirtd == m->source_libvirtd && m->to->libvirtd == m->libvirtd && m->libvirtd &&
               hosts_connected(m->from, m->to);
}

/* --- the destination --- */

static void finish(struct migration *m)
{
        struct qemu *q = m->destination;

        q->memory_n = m->memory_n;
        q->booted = m->source->booted;
        if (q->alive && libvirt_may_run(q, proc_current()) && qemu_activate(q) && q->alive) {
                q->phase = QEMU_ALONE;
                W.stats.commits++;
                qemu_run(q, false);
                qemu_guest(q);
                virt_note(m->to, VIRT_RESUMED, q->lease.instance, "migrated");
                m->runs = true;
                return;
        }
        qemu_kill(q);
        virt_note(m->to, VIRT_STOPPED, q->lease.instance, "failed");
}

static void destination_main(void *arg)
{
        struct migration *m = arg;
        int64_t unheard = 0;
        struct err e = {0};
        int r;

        if (m->asked == M_CANCEL || qemu_find(m->to, m->source->lease.instance)) {
                m->over = true;
                co_wake(m, true);
                return;
        }
        m->destination = qemu_new(m->to, m->xml, QEMU_INCOMING);
        virt_note(m->to, VIRT_STARTED, m->destination->lease.instance, "migrated");
        libvirt_ask(m->destination, GATE_REGISTER, &r, &e);
        co_sleep(rnd_between(50, 400) * SIM_MS);
        if (r < 0 || m->asked == M_CANCEL || !m->destination->alive) {
                qemu_kill(m->destination);
                m->over = true;
                co_wake(m, true);
                return;
        }
        m->asked = M_PREPARED;
        co_wake(m, true);
        while (m->asked == M_PREPARED && m->destination->alive) {
                co_wait(m, sched_now() + 200 * SIM_MS);
                if (connected(m))
                        unheard = 0;
                else if (!unheard)
                        unheard = sched_now() + rnd_between(0, 35) * SIM_S; /* keepalive */
                else if (sched_now() >= unheard)
                        break;
        }
        if (m->asked == M_FINISH)
                finish(m);
        else
                qemu_kill(m->destination);
        m->over = true;
        co_wake(m, true);
}

/* --- the source --- */

/* QEMU sends the memory. Returns 0 for COMPLETED; else the job has failed, and it has gone on by itself
 * where it can. */
static int perform(struct migration *m, struct call *c)
{
        struct qemu *q = m->source;
        int64_t until = sched_now() + rnd_between(100, rnd(10) == 0 ? 20000 : 3000) * SIM_MS;
        bool fails = !W.quiet && rnd(12) == 0, stands = false;
        struct err e = {0};
        int r;

        while (sched_now() < until) {
                co_sleep(50 * SIM_MS);
                if (!q->alive)
                        return err_set(&c->err, -EIO, "the guest ended");
                if (!q->running || q->abort_job || !m->destination->alive || !connected(m))
                        return err_set(&c->err, -EIO, "the job ended");
        }
        qemu_stop(q, "migration");
        virt_note(m->from, VIRT_SUSPENDED, q->lease.instance, "migrated");
        while (q->alive && q->writing) /* what it has sent is finished first */
                co_wait(q, sched_now() + 20 * SIM_MS);
        if (!q->alive || streq(q->reason, "ioerror"))
                return err_set(&c->err, -EIO, "a disk error");
        libvirt_ask(q, GATE_RELEASE, &r, &e);
        if (q->disk->second_locked == q)
                q->disk->second_locked = NULL;
        if (q->disk->image_locked == q)
                q->disk->image_locked = NULL;
        m->memory_n = q->memory_n;
        chaos_hint(m->from, 6);
        chaos_hint(m->to, 6);
        co_sleep(rnd_between(1, 100) * SIM_MS);
        stands = q->abort_job || !q->alive || !m->destination->alive || !connected(m);
        if (!stands && !(fails && W.broken != BREAK_SWITCH)) {
                q->completed = true;
                virt_note(m->from, VIRT_JOB_ENDED, q->lease.instance, "completed");
                if (!(fails && W.broken == BREAK_SWITCH))
                        return 0;
        }
        virt_note(m->from, VIRT_JOB_ENDED, q->lease.instance, "failed");
        if (q->alive && qemu_activate(q)) { /* by itself: asks nobody */
                qemu_run(q, false);
                virt_note(m->from, VIRT_RESUMED, q->lease.instance, "unpaused");
        }
        return W.broken == BREAK_SWITCH && q->completed
                   ? 0
                   : err_set(&c->err, -EIO, "the stream broke at the switchover");
}

static void source_again(struct qemu *q)
{
        q->completed = false;
        if (!q->alive || q->running || streq(q->reason, "ioerror"))
                return;
        if (!libvirt_may_run(q, proc_current()) || !qemu_activate(q))
                return; /* stays paused */
        qemu_run(q, false);
        virt_note(q->host, VIRT_RESUMED, q->lease.instance, "unpaused");
}

/* While the destination begins to run: does the source, when it is here again, run too? */
static void source_dies(void *arg)
{
        W.stats.faults++;
        libvirtd_kill(arg, false);
}

static int source_end(struct migration *m, struct call *c, int r)
{
        struct qemu *q = m->source;
        int64_t unheard = 0;

        chaos_hint(rnd(2) ? m->from : m->to, 3);
        if (!W.quiet && rnd(8) == 0)
                event_at(sched_now() + rnd_between(0, 200) * SIM_MS, source_dies, m->from);
        co_sleep(rnd_between(1, rnd(4) == 0 ? 2000 : 20) * SIM_MS);
        m->asked = r == 0 ? M_FINISH : M_CANCEL;
        co_wake(m, true);
        while (r == 0 && !m->over) {
                co_wait(m, sched_now() + 200 * SIM_MS);
                if (connected(m))
                        unheard = 0;
                else if (!unheard)
                        unheard = sched_now() + (m->to->libvirtd == m->libvirtd ? 30 * SIM_S : 0);
                else if (sched_now() >= unheard)
                        r = err_set(&c->err, -EIO, "the destination cannot be heard");
        }
        q->job = false;
        q->abort_job = false;
        if (r == 0 && m->runs && connected(m)) {
                co_sleep(rnd_between(5, 1600) * SIM_MS);
                virt_note(m->from, VIRT_STOPPED, q->lease.instance, "migrated");
                qemu_kill(q);
                return 0;
        }
        source_again(q);
        return r < 0 ? r : err_set(&c->err, -EIO, "the destination did not start");
}

int libvirt_migrate(struct call *c)
{
        struct host *to = c->to <= W.n_hosts ? &W.hosts[c->to - 1] : NULL;
        struct qemu *q = qemu_find(c->host, c->instance);
        struct migration *m;
        int r = 0;

        if (!q || !q->running || q->job)
                return err_set(&c->err, -EINVAL, "no running domain without a job");
        if (!to || !to->libvirtd || !hosts_connected(c->host, to))
                return err_set(&c->err, -EHOSTUNREACH, "the destination's libvirt does not answer");
        m = calloc(1, sizeof(*m)); /* outlives this call where the destination still works on it */
        assert(m);
        *m = (struct migration){.source = q,
                                .from = c->host,
                                .to = to,
                                .source_libvirtd = c->host->libvirtd,
                                .libvirtd = to->libvirtd,
                                .xml = strdup(c->xml)};
        q->job = true;
        q->abort_job = false;
        co_spawn(to->libvirtd, destination_main, m);
        while (m->asked == M_PREPARE && !m->over && connected(m))
                co_wait(m, sched_now() + 200 * SIM_MS);
        if (m->asked != M_PREPARED || m->over) {
                q->job = false;
                m->asked = M_CANCEL;
                return err_set(&c->err, -EIO, "the destination could not prepare");
        }
        r = perform(m, c);
        if (!q->alive) {
                m->asked = M_CANCEL;
                co_wake(m, true);
                return err_set(&c->err, -EIO, "the guest ended");
        }
        return source_end(m, c, r);
}

/* libvirtd is here again: what was it doing? */
void libvirt_recover(struct host *h)
{
        for (struct qemu *q = h->qemus; q; q = q->next) {
                if (!q->alive || !q->known)
                        continue;
                co_sleep(rnd_between(1, 50) * SIM_MS);
                if (q->phase == QEMU_INCOMING && !q->running) {
                        qemu_kill(q);
                        continue;
                }
                if (streq(q->reason, "starting-up")) { /* half-made */
                        qemu_kill(q);
                        continue;
                }
                if (!q->job)
                        continue;
                q->job = false;
                q->abort_job = false;
                if (!q->completed || rnd(4) > 0)
                        source_again(q);
        }
}
