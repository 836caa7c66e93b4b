/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "hostd/record.h"
#include "tests/sim/world.h"

#define NOTED_MS 5500 /* a call of the storage that comes between may take so long */

/*
 * Disks as they really are: who may write, what was written by whom, what a guest was told. The checks of
 * the promises are here:
 *
 *   one writer   at no time may two QEMUs with running vCPUs write, and no write lands of a QEMU but the one
 *                that began to run last
 *   nothing lost a block that follows none, or that was there already, comes from a memory that does not fit
 *                the disk: it overwrites what somebody was told is safe
 *   no kill      a guest that stands on a disk error, and whose name and rights are its own, is not ended, unless who
 *                ends it has read in the record that somebody wants that
 */

enum health_verdict __wrap_health_stopped(struct health_stop *s, enum health_rights rights,
                                          enum health_room room, int64_t now_ms);
enum health_verdict __real_health_stopped(struct health_stop *s, enum health_rights rights,
                                          enum health_room room, int64_t now_ms);

enum health_verdict __wrap_health_stopped(struct health_stop *s, enum health_rights rights,
                                          enum health_room room, int64_t now_ms)
{
        if (W.broken != BREAK_ERRNO)
                return __real_health_stopped(s, rights, room, now_ms);
        return s->errors >= 3 ? HEALTH_KILL : now_ms >= s->try_ms ? HEALTH_GO_ON : HEALTH_STAND;
}

struct disk *disk_of(const char *instance)
{
        for (size_t i = 0; i < W.n_disks; i++)
                if (streq(W.disks[i].id, instance))
                        return &W.disks[i];
        return NULL;
}

struct disk *disk_new(const char *instance, const char *name)
{
        struct disk *d = &W.disks[W.n_disks++];

        *d = (struct disk){0};
        snprintf(d->id, sizeof(d->id), "%s", instance);
        snprintf(d->name, sizeof(d->name), "%s", name);
        return d;
}

void disk_arrived(struct disk *d, const struct qemu *q)
{
        struct lease now;

        if (lease_find(W.store, d->id, &now, NULL) < 0 || now.host != q->host->number ||
            now.epoch != q->lease.epoch + 1) /* the yes comes too late: the storage refuses its writes */
                return;
        if (streq(d->told_failed, q->lease.attempt))
                violated("%s runs on %s by a move that was told failed", d->id, q->host->name);
        snprintf(d->arrived, sizeof(d->arrived), "%s", q->lease.attempt);
}

static const struct client *client_of(const struct disk *d, pid_t pid)
{
        for (size_t i = 0; i < d->n_clients; i++)
                if (d->clients[i].pid == pid)
                        return &d->clients[i];
        return NULL;
}

void disk_link(struct disk *d, const char *start, const struct lease *lease)
{
        struct start_link *l = NULL;

        for (size_t i = 0; i < MIN_OF(d->n_links, LINKS_MAX); i++)
                if (streq(d->links[i].start, start))
                        l = &d->links[i];
        if (!l)
                l = &d->links[d->n_links++ % LINKS_MAX];
        snprintf(l->start, sizeof(l->start), "%s", start);
        l->lease = *lease;
}

bool disk_link_holds(const struct disk *d, const struct qemu *q)
{
        struct lease now;

        if (lease_find(W.store, d->id, &now, NULL) < 0)
                return false;
        for (size_t i = 0; i < MIN_OF(d->n_links, LINKS_MAX); i++)
                if (streq(d->links[i].start, q->lease.start.id))
                        return d->links[i].lease.epoch == now.epoch && d->links[i].lease.host == now.host;
        return false;
}

bool disk_writable(const struct disk *d, const struct qemu *q)
{
        const struct client *c;

        switch (W.kind) {
        case FENCE_NFS:
                if (W.broken == BREAK_UID)
                        return true;
                return q->lease.start.uid == d->uid ||
                       (d->group_writes && d->gid && q->lease.start.gid == d->gid);
        case FENCE_DIR:
                return d->image_locked == q || W.broken == BREAK_LOCK;
        default:
                c = client_of(d, q->pid);
                return c && !c->blocked;
        }
}

void disk_check(const struct disk *d)
{
        const struct qemu *writer = NULL;

        for (unsigned i = 0; i < W.n_machines; i++)
                for (const struct qemu *q = W.hosts[i].qemus; q; q = q->next) {
                        if (q->disk != d || !q->alive || !q->running || !disk_writable(d, q))
                                continue;
                        if (writer)
                                violated("two writers of %s: QEMU %d on %s and QEMU %d on %s", d->id,
                                         (int)writer->pid, writer->host->name, (int)q->pid, q->host->name);
                        writer = q;
                }
}

int disk_write(struct disk *d, struct qemu *q, uint64_t n)
{
        W.stats.writes++;
        if (!disk_writable(d, q)) {
                W.stats.refused++;
                return -EACCES;
        }
        if (W.full)
                return -ENOSPC;
        if (d->session != q->pid)
                violated("%s: a write of QEMU %d on %s landed after QEMU %d had begun to run", d->id,
                         (int)q->pid, q->host->name, (int)d->session);
        else if (n != d->n + 1 && !(n == d->n && d->last_booted == q->booted))
                violated("%s: QEMU %d on %s writes block %llu where %llu were written, %llu of them "
                         "acknowledged: %s",
                         d->id, (int)q->pid, q->host->name, (unsigned long long)n, (unsigned long long)d->n,
                         (unsigned long long)d->acked,
                         n <= d->acked ? "an acknowledged write is lost" : "its memory is another disk's");
        d->n = n;
        d->last_booted = q->booted;
        d->ctime++;
        d->progress_ns = sched_now();
        return 0;
}

/* One that cannot write may do as it likes: a yes that came too late, a source that was left behind. */
void disk_begin(struct disk *d, struct qemu *q, bool boot)
{
        if (boot)
                q->memory_n = d->n;
        if (!disk_writable(d, q))
                return;
        if (!boot && d->n != q->memory_n && !(d->n == q->memory_n + 1 && d->last_booted == q->booted))
                violated("%s: QEMU %d on %s runs with the memory of block %llu on a disk at block %llu",
                         d->id, (int)q->pid, q->host->name, (unsigned long long)q->memory_n,
                         (unsigned long long)d->n);
        if (boot && d->n < d->acked)
                violated("%s: block %llu was acknowledged and %llu are there", d->id,
                         (unsigned long long)d->acked, (unsigned long long)d->n);
        d->session = q->pid;
        disk_check(d);
}

void disk_open(struct disk *d, const struct qemu *q)
{
        if (W.kind != FENCE_RBD)
                return;
        if (d->n_clients == CLIENTS_MAX) { /* the oldest that nobody can be any more */
                for (size_t i = 0; i < d->n_clients; i++)
                        if (d->clients[i].blocked || !qemu_alive(d->clients[i].pid)) {
                                memmove(&d->clients[i], &d->clients[i + 1],
                                        (--d->n_clients - i) * sizeof(*d->clients));
                                break;
                        }
        }
        if (d->n_clients < CLIENTS_MAX)
                d->clients[d->n_clients++] = (struct client){.pid = q->pid};
}

static bool asked_to_end(const struct instance *i)
{
        return i->wanted != WANTED_RUNNING || i->restart != i->restart_done;
}

/* In its upper bits the time, in ms. */
static uint64_t read_note(const struct disk *d, bool asked)
{
        return (uint64_t)(sched_now() / SIM_MS) << 16 | (uint64_t)(d - W.disks + 1) << 1 | asked;
}

/* This thread has read so; a read that it makes beside that decision changes nothing in what it does. */
static bool noted_end(const struct disk *d)
{
        return (uint16_t)*co_note() == (uint16_t)read_note(d, true) &&
               sched_now() / SIM_MS - (int64_t)(*co_note() >> 16) < NOTED_MS;
}

int __wrap_instance_load(struct store *s, const char *id, struct instance *ret, struct err *err);
int __real_instance_load(struct store *s, const char *id, struct instance *ret, struct err *err);

/* Each thread of a hostd has a note of what it read last: whether somebody wants the instance's QEMU to end. */
int __wrap_instance_load(struct store *s, const char *id, struct instance *ret, struct err *err)
{
        const struct disk *d = disk_of(id);
        int r = __real_instance_load(s, id, ret, err);

        if (s == W.store || !d || (r < 0 && r != -ENOENT))
                return r;
        if (r == -ENOENT || asked_to_end(ret))
                *co_note() = read_note(d, true);
        else if (!noted_end(d))
                *co_note() = read_note(d, false);
        return r;
}

/* Called by the thread of hostd that ends it. */
void disk_check_kill(const struct disk *d, const struct qemu *q)
{
        struct instance i = {0};
        struct lease now = {0};

        /* A wish may be older than the newest one: what counts is what this thread has read. */
        if (q->running || !q->alive || !q->known || !streq(q->reason, "ioerror") || q->host->going_down ||
            !disk_writable(d, q) || (uint16_t)*co_note() == (uint16_t)read_note(d, true))
                return;
        world_hold();
        if (instance_load(W.store, d->id, &i, NULL) == 0 && !asked_to_end(&i) &&
            lease_find(W.store, d->id, &now, NULL) == 0 && now.host == q->host->number &&
            streq(i.start.id, q->lease.start.id) && i.start_epoch == now.epoch)
                violated("%s: QEMU %d on %s owns its disk and may write, and was killed after a disk error",
                         d->id, (int)q->pid, q->host->name);
        world_release();
        instance_done(&i);
}
