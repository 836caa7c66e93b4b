/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "hostd/plug/internal.h"
#include "hostd/plug/plug.h"
#include "hostd/self.h"
#include "migrate/isolation.h"
#include "tests/sim/world.h"

/*
 * The taps of a host's guests, and who can be reached from the network. Checked:
 *
 *   reached once  a guest whose disk was taken over, and runs elsewhere, is shut within a bound, where its
 *                 hostd lives
 *   reached still where the storage is away for everybody, nobody's guest is shut
 */
#define CHECK_NS (100 * SIM_MS)
#define CUT_BOUND_NS (ISOLATION_BOUND_MS * SIM_MS) /* the storage does not answer: the peers tell */
/* It answers, slowly, or loses a question: each try may take its whole timeout. */
#define LOOK_BOUND_NS (31 * SIM_S)
/* So long that every other host has it in its list: one every 2 s, of which one may wait 5 s for an answer in vain. */
#define BACK_NS (1 * SIM_S)
#define BLINK_NS                                                                                            \
        (3 * SIM_S) /* away for less: a peer's writes show no gap that could be told from a late one */
#define LISTED_NS ((W.slow_lists ? 14 : 9) * SIM_S)

static struct qemu *behind(const struct host *h, const char *tap)
{
        char name[TAP_NAME_LEN];

        for (struct qemu *q = h->qemus; q; q = q->next) {
                plug_tap(q->lease.instance, name);
                if (q->alive && streq(name, tap))
                        return q;
        }
        return NULL;
}

/* So long ago that it is in the others' lists by `now`. */
static bool known_at(int64_t now, int64_t since)
{
        return since && now - since >= LISTED_NS;
}

/* By the list that its hostd has. */
static bool knows(const struct host *h, const struct host *peer)
{
        const struct plug *p = h->context->plug;

        for (size_t i = 0; p && i < p->n_peers; i++)
                if (p->peers[i].number == peer->number &&
                    streq(p->peers[i].api + strlen("http://"), peer->listen))
                        return true;
        return false;
}

/* The storage went away for all while this host was well, and so is another that it can ask. For a while after its
 * return nobody can have looked for long enough to take anybody for dead. */
static void check_shut(const struct host *h, const struct qemu *q)
{
        int64_t since = W.away_since_ns || sched_now() - W.back_ns < BACK_NS ? W.was_away_since_ns : 0;
        bool blink = !W.away_since_ns && W.back_ns - since < BLINK_NS;
        int64_t away = (since + h->offset_ns) / SIM_MS;
        struct lease now;
        int r;

        world_hold();
        r = lease_find(W.store, q->disk->id, &now, NULL);
        world_release();
        if (!since || blink || !h->context || h->context->self->own_write_ms < away - 1000 ||
            !h->well_since_ns || sched_now() - h->well_since_ns < 3 * SIM_S || r < 0 ||
            now.host != h->number)
                return;
        for (unsigned i = 0; i < W.n_machines; i++)
                if (&W.hosts[i] != h && known_at(since, W.hosts[i].well_since_ns) &&
                    known_at(since, W.hosts[i].listed_since_ns) && knows(h, &W.hosts[i]))
                        violated("%s: QEMU %d on %s was cut off, and the storage is away for everybody",
                                 q->disk->id, (int)q->pid, h->name);
}

int tap_set(const char *tap, bool up, struct err *err)
{
        struct host *h = host_current();
        struct qemu *q = behind(h, tap);

        if (!q)
                return err_set(err, -ENODEV, "tap %s: no such device", tap);
        if (q->shut == !up)
                return 0;
        q->shut = !up;
        tell("%s: QEMU %d on %s is %s", q->disk->id, (int)q->pid, h->name, up ? "reached again" : "cut off");
        if (!up) {
                W.stats.shut++;
                check_shut(h, q);
        }
        return 1;
}

bool tap_is_up(const char *tap)
{
        const struct qemu *q = behind(host_current(), tap);

        return q && !q->shut;
}

int tap_each(const char *bridge, void (*on)(void *arg, const char *tap), void *arg, struct err *err)
{
        for (struct qemu *q = host_current()->qemus; q; q = q->next) {
                char name[TAP_NAME_LEN];

                plug_tap(q->lease.instance, name);
                if (q->alive)
                        on(arg, name);
        }
        return 0;
}

int tap_uplinks(const char *bridge, unsigned *ret_ports, unsigned *ret_carriers, struct err *err)
{
        *ret_ports = 1;
        *ret_carriers = !host_current()->network_cut && !host_current()->uplink_cut;
        return 0;
}

int tap_announce(const char *bridge, const char *tap, const char *mac, const char *address, struct err *err)
{
        return 0;
}

/* --- the checks --- */

static bool paused(const struct proc *p)
{
        return p->paused_until > sched_now();
}

/* It had been there long enough to have a list, and one of those in it was up. A hostd that stood still all that time has
 * none, however long ago it began. A host asks no machine of its own number. */
static bool had_peer(const struct host *h)
{
        int64_t now = h->cut_since_ns;

        for (unsigned i = 0; i < W.n_machines; i++)
                if (W.hosts[i].number != h->number && known_at(now, W.hosts[i].up_since_ns) &&
                    known_at(now, W.hosts[i].listed_since_ns) && h->context && knows(h, &W.hosts[i]))
                        return known_at(now, h->up_since_ns);
        return false;
}

static void check_host(struct host *h)
{
        bool well = h->context && h->http && !h->network_cut && !paused(h->hostd);

        if (!well)
                h->well_since_ns = 0;
        else if (!h->well_since_ns)
                h->well_since_ns = sched_now();
        if (!h->context)
                h->up_since_ns = 0;
        else if (!h->up_since_ns)
                h->up_since_ns = sched_now();
        if (!h->storage_cut)
                h->cut_since_ns = 0;
        else if (!h->cut_since_ns) {
                h->cut_since_ns = sched_now();
                h->cut_had_peer = had_peer(h);
        }
}

/* It is cut off the storage alone: where its list names no other that is up, a silence tells it nothing. */
static bool isolated(const struct host *h)
{
        return h->cut_since_ns && !W.away_since_ns && h->cut_had_peer && h->up_since_ns &&
               h->up_since_ns < h->cut_since_ns;
}

/* One that stopped on a disk error counts, too: a real storage client may hang and not fail, and then the
 * guest's network goes on. */
static bool answers(const struct qemu *q)
{
        return q->alive && (q->running || streq(q->reason, "ioerror")) && !paused(q->proc) &&
               (!q->shut || W.broken == BREAK_PLUG);
}

static bool writes_steadily(const struct host *h)
{
        const struct self *self = h->context->self;
        int64_t now = (sched_now() + h->offset_ns) / SIM_MS;

        return now - self->own_write_ms <= ISOLATION_GAP_MS &&
               self->own_write_ms - self->steady_ms >= ISOLATION_STEADY_MS;
}

/* Those that answer this host have themselves written with gaps: for all it can know, the storage is away for everybody. */
static bool peers_unsure(const struct host *h)
{
        bool unsure = false;

        for (unsigned i = 0; i < W.n_machines && !h->network_cut; i++) {
                const struct host *peer = &W.hosts[i];

                if (peer == h || !peer->context || !peer->http || peer->network_cut || paused(peer->hostd) ||
                    !knows(h, peer))
                        continue;
                if (writes_steadily(peer))
                        return false;
                unsure = true;
        }
        return unsure;
}

/* Does it answer on the network beside the guest that runs on this disk now? */
static bool beside(const struct qemu *q)
{
        const struct qemu *now = qemu_alive(q->disk->session);

        return now && now != q && now->running && now->host != q->host && answers(q);
}

static void check_qemu(struct qemu *q)
{
        const struct host *h = q->host;
        bool cut = isolated(h);

        /* Time counts only in which its hostd could have done something. */
        if (!beside(q) || !h->context || paused(h->hostd) || cut != q->beside_cut ||
            !(cut ? !peers_unsure(h) : storage_reachable(h))) {
                q->beside_cut = cut;
                q->beside_since_ns = 0;
                return;
        }
        if (!q->beside_since_ns)
                q->beside_since_ns = sched_now();
        if (sched_now() - q->beside_since_ns > (cut ? CUT_BOUND_NS : LOOK_BOUND_NS))
                violated("%s: QEMU %d on %s can be reached beside the one that owns the disk", q->disk->id,
                         (int)q->pid, h->name);
}

void plug_check_run(void *arg)
{
        for (;;) {
                co_sleep(CHECK_NS);
                for (unsigned i = 0; i < W.n_machines; i++) {
                        check_host(&W.hosts[i]);
                        for (struct qemu *q = W.hosts[i].qemus; q; q = q->next)
                                if (q->alive)
                                        check_qemu(q);
                }
        }
}
