/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence: raise the gate, put the recorded clients on Ceph's blocklist, wait for the OSD map that says
 * so.
 *
 * Why this client's having the new map is enough, though an OSD may still lack it: every request carries its
 * sender's map epoch, and an OSD serves none before it has that map itself. The new QEMU connects after the
 * fence, so its map is at least this one, and the first request that it sends about an object brings the OSD
 * up to it. What the old QEMU wrote to that object before is seen; what it sends after is refused. An old
 * write to an object that the new QEMU has not looked at yet is no different from one that came before the
 * fence.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "imaged/store/rbd-gate.h"

#define BATCH 16        /* blocklist requests under way at once */
#define SCRATCH_TTL 120 /* seconds that the self-test's client stays on the blocklist */

struct blocklisting {
        rados_t cluster;
        char address[64];
        uint32_t seconds;
        pthread_t thread;
        bool started;
        int r;
};

static void *blocklist_run(void *arg)
{
        struct blocklisting *b = arg;

        b->r = rados_blocklist_add(b->cluster, b->address, b->seconds);
        return NULL;
}

/* librados offers the command only as a call that blocks; together they share one proposal of the monitors.
 */
static int blocklist_batch(rados_t cluster, const struct gate_client *const *clients, size_t n,
                           uint32_t seconds, struct err *err)
{
        struct blocklisting batch[BATCH] = {0};
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                batch[i].cluster = cluster;
                batch[i].seconds = seconds;
                strcpy(batch[i].address, clients[i]->address);
                batch[i].started =
                    i > 0 && pthread_create(&batch[i].thread, NULL, blocklist_run, &batch[i]) == 0;
        }
        for (size_t i = 0; i < n; i++)
                if (!batch[i].started) /* the first one here, and any for which there was no thread */
                        blocklist_run(&batch[i]);
        for (size_t i = 0; i < n; i++) {
                if (batch[i].started)
                        pthread_join(batch[i].thread, NULL);
                if (batch[i].r < 0 && r == 0)
                        r = pool_fail(err, batch[i].r, "blocklist client %s", batch[i].address);
        }
        return r;
}

int fence_clients(const struct store *s, const struct gate_client *const *clients, size_t n,
                  uint32_t seconds, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        int r = 0;

        if (n == 0)
                return 0;
        r = pool_client_get(s, &client, err);
        for (size_t i = 0; i < n && r == 0; i += BATCH)
                r = blocklist_batch(client->cluster, clients + i, MIN_OF(n - i, BATCH), seconds, err);
        if (r < 0)
                return r;
        r = rados_wait_for_latest_osdmap(client->cluster);
        return r < 0 ? pool_fail(err, r, "wait for the OSD map with the fence") : 0;
}

/*
 * Who of the recorded clients must be refused before `start` may run. Not its own client (a source that runs
 * on). And at a migration's commit not the source's: its vCPUs are stopped, its writes are done and its gate
 * will refuse; waiting for the monitors here would be the guest's downtime. It stays recorded until its end
 * is proved, or the next fence meets it. A commit is what has a start of a migration attempt (it alone has a
 * group) that the gate has not registered yet; the source is who was registered last.
 */
bool fence_spares(const struct gate *g, const struct gate_client *c, const struct start *start)
{
        bool mine_known = false;
        uint64_t newest = 0;

        if (streq(c->start, start->id))
                return true;
        for (size_t i = 0; i < g->n_clients; i++) {
                mine_known = mine_known || streq(g->clients[i].start, start->id);
                newest = MAX_OF(newest, g->clients[i].epoch);
        }
        return start->gid != 0 && !mine_known && c->epoch == newest;
}

int rbd_lease_fence(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks _unused_,
                    size_t n_disks _unused_, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(gate_look_done) struct gate_look look = {0};
        _cleanup_(freep) const struct gate_client **out = NULL;
        const struct gate *gate = &look.gate;
        size_t n = 0;
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = gate_look(&look, io, instance, mine, err);
        if (r == 0)
                r = gate_raise_seen(io, instance, mine, &look, NULL, start, NULL, err);
        if (r == 1) {
                gate_done(&look.gate);
                r = gate_raise(io, instance, mine->epoch, start->id, &look.gate, err);
        }
        if (r < 0)
                return r;
        out = calloc(gate->n_clients + 1, sizeof *out);
        if (!out)
                return err_set(err, -ENOMEM, "out of memory");
        for (size_t i = 0; i < gate->n_clients; i++)
                if (!fence_spares(gate, &gate->clients[i], start))
                        out[n++] = &gate->clients[i];
        r = fence_clients(s, out, n, POOL_FOREVER, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                log_info("instance %s: client %s of epoch %llu is fenced", instance, out[i]->address,
                         (unsigned long long)out[i]->epoch);
        return gate_drop(io, instance, out, n, true, err);
}

/* A writer on a connection of its own, as a QEMU has one. */
struct scratch {
        rados_t cluster;
        rados_ioctx_t io;
        char *address;
        char oid[POOL_NAME_MAX];
};

static void scratch_done(struct scratch *w)
{
        pool_io_donep(&w->io);
        if (w->cluster)
                rados_shutdown(w->cluster);
        free(w->address);
}

static int selftest_run(struct store *s, rados_t cluster, rados_ioctx_t io, struct scratch *w,
                        struct err *err)
{
        const struct pool *p = pool_of(s);
        char got[8] = "";
        int r = pool_connect(s, &w->cluster, err);

        if (r < 0)
                return r;
        r = pool_io_in(s, w->cluster, p->ns, &w->io, err);
        if (r == 0)
                r = pool_address(w->cluster, &w->address, err);
        if (r < 0)
                return r;
        r = rados_write_full(w->io, w->oid, "before", 6);
        if (r < 0)
                return pool_fail(err, r, "write %s", w->oid);
        r = rados_blocklist_add(cluster, w->address, SCRATCH_TTL);
        if (r == -EACCES || r == -EPERM) {
                err_set(err, -EACCES,
                        "client.%s may not put clients on Ceph's blocklist, so a dead host's guests cannot "
                        "be fenced: run "
                        "\"ceph auth caps client.%s mon 'profile rbd' osd 'profile rbd pool=%s'\"",
                        s->options.ceph_user ? s->options.ceph_user : "admin",
                        s->options.ceph_user ? s->options.ceph_user : "admin", p->name);
                return 0;
        }
        if (r == 0)
                r = rados_wait_for_latest_osdmap(cluster);
        if (r == 0)
                r = rados_read(io, w->oid, got, 6,
                               0); /* as the new owner does: brings the OSD up to this map */
        if (r < 0)
                return pool_fail(err, r, "blocklist client %s", w->address);
        r = rados_write_full(w->io, w->oid, "after!", 6);
        if (r == 0) {
                err_set(err, -EIO,
                        "client %s is on Ceph's blocklist, yet it could write: failover would not be safe",
                        w->address);
                return 0;
        }
        if (r != -ESHUTDOWN)
                return pool_fail(err, r, "a blocklisted client's write ended otherwise than refused");
        r = rados_read(io, w->oid, got, 6, 0);
        if (r != 6 || memcmp(got, "before", 6) != 0) {
                err_set(err, -EIO, "a write of a blocklisted client was refused, yet it is on the storage");
                return 0;
        }
        return 1;
}

int rbd_selftest(struct store *s, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(scratch_done) struct scratch w = {0};
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        snprintf(w.oid, sizeof w.oid, "selftest.%016llx", (unsigned long long)random_u64());
        r = selftest_run(s, client->cluster, io, &w, err);
        (void)rados_remove(io, w.oid);
        return r;
}
