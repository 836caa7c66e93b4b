/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "hostd/record.h"
#include "tests/sim/world.h"

/* Is every instance as its record wants it? Read from the truth, not through any host's eyes. */

#define PROGRESS_NS (5 * SIM_S) /* a guest that runs has written something since */

static size_t qemus_of(const struct disk *d, const struct qemu **ret)
{
        size_t n = 0;

        for (unsigned i = 0; i < W.n_machines; i++)
                for (const struct qemu *q = W.hosts[i].qemus; q; q = q->next)
                        if (q->alive && q->disk == d) {
                                *ret = q;
                                n++;
                        }
        return n;
}

static const char *settled_running(const struct disk *d, const struct instance *i, const struct lease *lease,
                                   const struct qemu *q, size_t n)
{
        if (n == 0)
                return "should run and does not";
        if (n > 1)
                return "has more than one QEMU";
        if (!q->running)
                return "stands still";
        if (q->host->number != lease->host)
                return "runs where its disk is not";
        if (!streq(i->start.id, q->lease.start.id) || i->start_epoch != lease->epoch)
                return "runs, and its record tells of another start";
        if (sched_now() - d->progress_ns > PROGRESS_NS)
                return "runs and writes nothing";
        if (i->restart != i->restart_done)
                return "has not been restarted as asked";
        if (i->move_serial != i->move_serial_done)
                return "waits for the outcome of a migration";
        return NULL;
}

/* Nobody can end, or move, what runs where libvirtd is gone for good. */
static bool out_of_reach(const struct disk *d)
{
        for (unsigned i = 0; i < W.n_machines; i++)
                for (const struct qemu *q = W.hosts[i].qemus; q && W.hosts[i].no_libvirtd; q = q->next)
                        if (q->alive && q->disk == d)
                                return true;
        return false;
}

static const char *settled_one(const struct disk *d)
{
        const struct qemu *q = NULL;
        size_t n = qemus_of(d, &q);
        struct instance i = {0};
        struct lease lease = {0};
        const char *why = NULL;
        int r;

        world_hold();
        r = instance_load(W.store, d->id, &i, NULL);
        if (r == -ENOENT)
                why = !d->deleted ? "has lost its record" : n ? "is deleted and has a QEMU" : NULL;
        else if (r < 0)
                why = "has a damaged record";
        else if (i.restart < d->restarts)
                violated("%s: the record has lost what was written into it: restart %lld of %lld", d->id,
                         (long long)i.restart, (long long)d->restarts);
        else if (i.wanted == WANTED_DELETED)
                why = "is not deleted yet";
        else if (d->deleted)
                why = NULL; /* the wish was not acknowledged */
        if (r == 0 && i.wanted == WANTED_STOPPED && n)
                why = "should stand and has a QEMU";
        else if (r == 0 && i.wanted == WANTED_STOPPED && !streq(i.state, "stopped"))
                why = "stands, and its record says otherwise";
        if (r == 0 && i.wanted == WANTED_RUNNING) {
                if (lease_find(W.store, d->id, &lease, NULL) < 0)
                        why = "has lost its disks";
                else
                        why = settled_running(d, &i, &lease, q, n);
        }
        instance_done(&i);
        world_release();
        return out_of_reach(d) ? NULL : why;
}

bool world_settled(char *ret_why, size_t n)
{
        for (size_t k = 0; k < W.n_disks; k++) {
                const char *why = settled_one(&W.disks[k]);

                if (why) {
                        snprintf(ret_why, n, "%s %s", W.disks[k].id, why);
                        return false;
                }
        }
        return true;
}
