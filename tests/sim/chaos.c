/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/world.h"

/* What goes wrong: each fault at a time, on a host and for as long as the seed says. */

/* A shorter pause ends no longer one: what was due has been put off until its end already. */
static void pause_until(struct proc *p, int64_t until)
{
        if (p)
                p->paused_until = MAX_OF(p->paused_until, until);
}

static void host_pause(struct host *h, int64_t ns)
{
        int64_t until = sched_now() + ns;

        tell("%s: stands still for %lld ms", h->name, (long long)(ns / SIM_MS));
        pause_until(h->hostd, until);
        pause_until(h->libvirtd, until);
        for (struct qemu *q = h->qemus; q; q = q->next)
                if (q->alive)
                        pause_until(q->proc, until);
}

static void proc_pause(struct proc *p, int64_t ns)
{
        if (!p)
                return;
        tell("%s: %s is stopped for %lld ms", p->host->name, p->what, (long long)(ns / SIM_MS));
        pause_until(p, sched_now() + ns);
}

static void power_again(void *arg)
{
        host_power_on(arg);
}

static void power_loss(struct host *h)
{
        host_power_off(h);
        if (rnd(4) > 0) /* else it stays away until the faults are over */
                event_at(sched_now() + rnd_between(500, 40000) * SIM_MS, power_again, h);
}

static void storage_again(void *arg)
{
        struct host *h = arg;

        tell("%s: storage is back", h->name);
        h->storage_cut = false;
}

static void away_again(void *arg)
{
        if (!W.away_since_ns)
                return;
        tell("the storage is back");
        W.away_since_ns = 0;
        W.back_ns = sched_now();
}

static void away(void)
{
        if (W.away_since_ns)
                return;
        tell("the storage is away for everybody");
        W.away_since_ns = W.was_away_since_ns = sched_now();
        event_at(sched_now() + rnd_between(1, rnd(2) ? 10 : 90) * SIM_S, away_again, NULL);
}

static void network_again(void *arg)
{
        struct host *h = arg;

        tell("%s: network is back", h->name);
        h->network_cut = false;
}

/* Somebody on the host: `virsh shutdown`, or libvirt-guests. */
static void press_buttons(struct host *h)
{
        for (struct qemu *q = h->libvirtd ? h->qemus : NULL; q; q = q->next)
                if (q->alive && q->known && rnd(2)) {
                        tell("%s: somebody on %s presses its power button", q->disk->id, h->name);
                        qemu_press(q);
                }
}

static void uplink_again(void *arg)
{
        struct host *h = arg;

        tell("%s: uplink is back", h->name);
        h->uplink_cut = false;
}

static void beat_again(void *arg)
{
        W.stuck_beat = 0;
}

static int64_t span(void)
{
        return rnd(3) == 0 ? rnd_between(3, 25) * SIM_S : rnd_between(50, 4000) * SIM_MS;
}

static void room_again(void *arg)
{
        tell("the storage has room again");
        W.full = false;
}

/* `virsh suspend`, behind hostd's back. */
static void suspend_one(struct host *h)
{
        for (struct qemu *q = h->qemus; q; q = q->next) {
                if (!q->alive || !q->running || !q->known || q->job || q->asking || !h->libvirtd)
                        continue;
                tell("%s: QEMU %d on %s is suspended", q->disk->id, (int)q->pid, h->name);
                qemu_stop(q, "user");
                q->suspended_ns = sched_now() + span();
                virt_note(h, VIRT_SUSPENDED, q->lease.instance, "paused");
                return;
        }
}

void suspenders_run(void *arg)
{
        for (;;) {
                co_sleep(SIM_S);
                for (unsigned i = 0; i < W.n_machines; i++)
                        for (struct qemu *q = W.hosts[i].qemus; q; q = q->next)
                                if (q->alive && q->known && !q->running && q->host->libvirtd &&
                                    q->suspended_ns && sched_now() >= q->suspended_ns)
                                        libvirt_resume(q);
        }
}

static void one_fault(struct host *h)
{
        W.stats.faults++;
        switch (rnd(18)) {
        case 0:
        case 1:
                hostd_kill(h);
                break;
        case 2:
        case 3:
                proc_pause(h->hostd, span());
                break;
        case 4:
                power_loss(h);
                break;
        case 5:
                libvirtd_kill(h, rnd(3) == 0);
                break;
        case 6:
                host_pause(h, span());
                break;
        case 7:
        case 8:
                tell("%s: storage is cut", h->name);
                h->storage_cut = true;
                event_at(sched_now() + span(), storage_again, h);
                break;
        case 9:
                tell("%s: network is cut", h->name);
                h->network_cut = true;
                event_at(sched_now() + span(), network_again, h);
                break;
        case 11:
                suspend_one(h);
                break;
        case 12:
                tell("the storage is full");
                W.full = true;
                event_at(sched_now() + span(), room_again, NULL);
                break;
        case 10:
                h->term = h->context != NULL;
                break;
        case 15:
                tell("%s: nobody can read its heartbeat", h->name);
                W.stuck_beat = h->number;
                event_at(sched_now() + span(), beat_again, NULL);
                break;
        case 16:
                host_go_down(h);
                break;
        case 13:
                press_buttons(h);
                break;
        case 14:
                tell("%s: uplink is cut", h->name);
                h->uplink_cut = true;
                event_at(sched_now() + rnd_between(3, 40) * SIM_S, uplink_again, h);
                break;
        default:
                proc_pause(h->libvirtd, span());
        }
}

static void fault_now(void *arg)
{
        if (!W.quiet)
                one_fault(arg);
}

/* Most of what can go wrong goes wrong when two meet: faults are more likely right after these moments. */
void chaos_hint(struct host *h, unsigned one_in)
{
        if (!W.quiet && W.chaos && h->number && rnd(one_in) == 0)
                event_at(sched_now() + (rnd(2) ? rnd_between(0, 20) : rnd_between(0, 600)) * SIM_MS,
                         fault_now, h);
}

/* For good, under a hostd that lives on: what should start there has to start elsewhere. */
static void lose_libvirtd(struct host *h)
{
        if (!h->context || h->term)
                return;
        h->no_libvirtd = true;
        libvirtd_kill(h, false);
}

void chaos_run(void *arg)
{
        unsigned gone = 0;

        W.chaos = true;
        while (sched_now() < W.faults_ns) {
                co_sleep(rnd(5) == 0 ? rnd_between(0, 50) * SIM_MS : rnd_between(200, 9000) * SIM_MS);
                if (sched_now() >= W.faults_ns)
                        break;
                if (rnd(60) == 0) /* the whole site */
                        for (unsigned i = 0; i < W.n_machines; i++)
                                power_loss(&W.hosts[i]);
                else if (rnd(40) == 0)
                        away();
                else
                        one_fault(&W.hosts[rnd(W.n_machines)]);
        }
        if (rnd(3) == 0) {
                gone = 1 + (unsigned)rnd(W.n_hosts);
                host_power_off(&W.hosts[gone - 1]);
        }
        tell("no more faults");
        W.quiet = true;
        away_again(NULL);
        W.full = false;
        W.stuck_beat = 0;
        for (unsigned i = 0; i < W.n_machines; i++) {
                W.hosts[i].storage_cut = W.hosts[i].network_cut = W.hosts[i].uplink_cut = false;
                if (i + 1 != gone)
                        host_power_on(&W.hosts[i]);
        }
        if (!gone && W.n_machines == W.n_hosts && rnd(3) == 0)
                lose_libvirtd(&W.hosts[rnd(W.n_hosts)]);
        /* The one that is gone for good must not be brought back by what was planned before. */
        while (gone) {
                host_power_off(&W.hosts[gone - 1]);
                co_sleep(10 * SIM_MS);
                if (sched_now() > W.faults_ns + 45 * SIM_S)
                        gone = 0;
        }
}
