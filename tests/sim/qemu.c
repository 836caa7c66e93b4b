/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hostd/record.h"
#include "migrate/planner.h"
#include "tests/sim/world.h"

/*
 * One QEMU and the guest in it, which writes numbered blocks one after the other and sometimes ends itself.
 * Its requests go to the storage on their own: they may land after it has died.
 */

static int lease_of(const char *xml, struct domain_lease *ret)
{
        const char *key = strstr(xml, "<key>"), *end = key ? strstr(key, "</key>") : NULL;
        char text[DOMAIN_LEASE_KEY_MAX + 1];

        if (!end)
                return -EINVAL;
        snprintf(text, sizeof(text), "%.*s", (int)(end - key - 5), key + 5);
        return domain_lease_parse(text, ret, NULL);
}

/* A promise: no host runs more than its memory holds. A QEMU that has never run takes little, and a guest that
 * nobody knows any more is only to be ended. */
static void memory_check(const struct host *h)
{
        uint64_t used = 0;
        struct instance i;

        world_hold();
        for (const struct qemu *q = h->qemus; q; q = q->next) {
                if (!q->alive || !q->ran || instance_load(W.store, q->lease.instance, &i, NULL) < 0)
                        continue;
                used += planner_memory(i.memory, i.cpus);
                instance_done(&i);
        }
        world_release();
        if (used > h->memory)
                violated("%s has %llu MiB of memory, and its guests and their QEMUs take %llu", h->name,
                         (unsigned long long)(h->memory >> 20), (unsigned long long)(used >> 20));
}

struct qemu *qemu_new(struct host *h, const char *xml, enum qemu_phase phase)
{
        struct qemu *q = calloc(1, sizeof(*q));
        int r;

        assert(q);
        r = lease_of(xml, &q->lease);
        assert(r == 0);
        q->host = h;
        q->disk = disk_of(q->lease.instance);
        assert(q->disk);
        q->proc = proc_new(h, "qemu");
        q->pid = 1000 + ++W.pids;
        q->phase = phase;
        q->alive = q->known = true;
        snprintf(q->reason, sizeof(q->reason), phase == QEMU_INCOMING ? "migration" : "starting-up");
        q->next = h->qemus;
        h->qemus = q;
        disk_open(q->disk, q);
        tell("%s: QEMU %d begins on %s, epoch %llu%s", q->disk->id, (int)q->pid, h->name,
             (unsigned long long)q->lease.epoch, q->lease.attempt[0] ? ", to arrive" : "");
        return q;
}

struct qemu *qemu_find(struct host *h, const char *instance)
{
        for (struct qemu *q = h->qemus; q; q = q->next)
                if (q->alive && q->known && streq(q->lease.instance, instance))
                        return q;
        return NULL;
}

struct qemu *qemu_alive(pid_t pid)
{
        for (unsigned i = 0; i < W.n_machines; i++)
                for (struct qemu *q = W.hosts[i].qemus; q; q = q->next)
                        if (q->alive && q->pid == pid)
                                return q;
        return NULL;
}

bool qemu_activate(struct qemu *q)
{
        if (W.kind != FENCE_DIR || W.broken == BREAK_LOCK)
                return true;
        if (q->disk->image_locked)
                return q->disk->image_locked == q;
        if (!disk_link_holds(q->disk, q)) /* it opens the image again, by the link of its start */
                return false;
        /* Meanwhile it was ended, or another was faster. */
        if (!q->alive || q->disk->image_locked)
                return q->disk->image_locked == q;
        q->disk->image_locked = q;
        return true;
}

void qemu_stop(struct qemu *q, const char *reason)
{
        q->running = false;
        snprintf(q->reason, sizeof(q->reason), "%s", reason);
}

void qemu_kill(struct qemu *q)
{
        if (!q->alive)
                return;
        tell("%s: QEMU %d on %s ends", q->disk->id, (int)q->pid, q->host->name);
        q->alive = q->running = q->known = false;
        q->ended_ns = sched_now();
        if (q->disk->image_locked == q)
                q->disk->image_locked = NULL;
        if (q->disk->second_locked == q)
                q->disk->second_locked = NULL;
        co_wake(q, true);
        proc_kill(q->proc);
}

/* --- the guest's requests --- */

struct request {
        struct qemu *q;
        uint64_t n;
        int result;
        bool done, lost;
};

static void request_answer(void *arg)
{
        struct request *w = arg;

        w->done = true;
        co_wake(w, true);
}

static void request_arrive(void *arg)
{
        struct request *w = arg;

        w->result = disk_write(w->q->disk, w->q, w->n);
        if (!w->lost)
                event_at(sched_now() + rnd_between(50, 2000) * SIM_US, request_answer, w);
}

static void io_error(struct qemu *q, uint64_t n, const char *detail)
{
        tell("%s: QEMU %d on %s: write of block %llu: %s", q->disk->id, (int)q->pid, q->host->name,
             (unsigned long long)n, detail);
        qemu_stop(q, "ioerror");
        virt_note(q->host, VIRT_SUSPENDED, q->lease.instance, "ioerror");
        virt_note(q->host, VIRT_IO_ERROR, q->lease.instance, detail);
}

/* A file's write is done, or not, when the call returns; one over the network takes its time. */
static void guest_write(struct qemu *q)
{
        /* Ceph's client holds it back; elsewhere it fails. */
        q->writing = W.full && W.kind == FENCE_RBD;
        while (W.full && W.kind == FENCE_RBD)
                co_sleep(100 * SIM_MS);
        struct request *w = calloc(1, sizeof(*w));
        uint64_t n = q->memory_n + 1;
        int64_t give_up = sched_now() + 10 * SIM_S;

        assert(w);
        *w = (struct request){.q = q, .n = n};
        q->writing = true;
        if (!storage_reachable(q->host)) {
                w->lost = true;
                give_up = sched_now() + 5 * SIM_S;
        } else if (W.kind == FENCE_DIR) {
                w->result = disk_write(q->disk, q, n);
                w->done = true;
        } else {
                /* Who is let go too early shows only by a write that is late. */
                unsigned late = W.broken == BREAK_GRACE || W.broken == BREAK_PROOF ? 200000 : W.slow;
                int64_t way = !W.quiet && rnd_chance(late) ? rnd_between(20 * SIM_MS, 6 * SIM_S)
                                                           : rnd_between(50, 2000) * SIM_US;

                w->lost = !W.quiet && rnd_chance(W.drop);
                event_at(sched_now() + way, request_arrive, w);
        }
        while (!w->done && sched_now() < give_up)
                co_wait(w, give_up);
        if (!w->done) { /* it may still land: the client keeps the request alive until it is refused */
                io_error(q, n, "etimedout");
        } else if (w->result < 0) {
                io_error(q, n,
                         W.kind == FENCE_NFS    ? "efault"
                         : w->result == -ENOSPC ? "enospc"
                                                : "eshutdown");
        } else {
                q->memory_n = n;
                if (q->disk->acked < n)
                        q->disk->acked = n;
        }
        if (w->done)
                free(w);
        q->writing = false;
        co_wake(q, true);
}

void qemu_press(struct qemu *q)
{
        q->pressed_ns = sched_now();
        q->off_asked = rnd(5) > 0; /* a guest may not listen */
        if (q->known)
                virt_note(q->host, VIRT_POWERDOWN, q->lease.instance, NULL);
}

/* Powers off, or crashes: libvirt sees the process go. */
static void guest_end(struct qemu *q, bool crash)
{
        char instance[UUID_LEN + 1];
        struct host *h = q->host;
        bool known = q->known;

        memcpy(instance, q->lease.instance, sizeof(instance));
        tell("%s: the guest in QEMU %d %s", instance, (int)q->pid, crash ? "crashes" : "powers off");
        q->off = !crash;
        if (known && !crash)
                virt_note(h, VIRT_SHUTDOWN, instance, "guest");
        if (known)
                virt_note(h, VIRT_STOPPED, instance, crash ? "crashed" : "shutdown");
        qemu_kill(q); /* the caller with it */
}

static void guest_main(void *arg)
{
        struct qemu *q = arg;

        for (;;) {
                while (!q->running)
                        co_wait(&q->running, SIM_NEVER);
                co_sleep(rnd_between(W.n_hosts > 20 ? 2000 : 20, W.n_hosts > 20 ? 4000 : 900) * SIM_MS);
                if (!q->running)
                        continue;
                if (q->off_asked && rnd(3) > 0)
                        guest_end(q, false);
                if (!W.quiet && rnd(400) == 0) {
                        bool crash = rnd(2) == 0;

                        q->disk->may_stop |= !crash;
                        guest_end(q, crash);
                }
                guest_write(q);
        }
}

void qemu_guest(struct qemu *q)
{
        co_spawn(q->proc, guest_main, q);
}

/* The vCPUs begin to run, or go on. */
void qemu_run(struct qemu *q, bool boot)
{
        q->running = q->ran = true;
        q->suspended_ns = 0;
        memory_check(q->host);
        if (boot)
                q->booted = q->pid;
        snprintf(q->reason, sizeof(q->reason), boot ? "booted" : "unpaused");
        W.stats.starts++;
        tell("%s: QEMU %d on %s runs at block %llu", q->disk->id, (int)q->pid, q->host->name,
             (unsigned long long)(boot ? q->disk->n : q->memory_n));
        disk_begin(q->disk, q, boot);
        co_wake(&q->running, true);
}
