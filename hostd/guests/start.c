/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/guests/guest.h"

#define STOP_PATIENCE_MS 60000 /* a guest that was asked to power off and did not is ended */
#define STOP_ASK_MS 4000       /* asked again: one that boots has not heard the first time */

/* On a directory QEMU opens files, as the user that libvirt runs it as. On nfs they are the start's own, on
 * rbd nobody's. */
static int give_to_qemu(const struct manager *m, const struct attach *a, struct err *err)
{
        const struct virt_host *h = &m->capacity;

        if (a->kind != ATTACH_FILE || chown(a->path, h->qemu_uid, h->qemu_gid) == 0)
                return 0;
        return err_set(err, -errno, "%s: cannot be given to QEMU's user %" PRIu32 ": %s", a->path,
                       h->qemu_uid, strerror(errno));
}

int guest_xml(struct manager *m, const struct instance *i, const struct lease *lease,
              const struct domain_lease *key, const char *bridge, char **ret, struct err *err)
{
        struct disk_spec specs[INSTANCE_DISKS];
        struct attach attaches[INSTANCE_DISKS];
        struct domain_disk disks[INSTANCE_DISKS + 1] = {0};
        _cleanup_(freep) char *lock_path = NULL;
        size_t n = instance_disks(i, specs);
        int r;

        r = lease_attach(m->store, i->id, lease, &key->start, specs, n, attaches, err);
        if (r == 0)
                r = lease_lock_path(m->store, i->id, &lock_path, err);
        for (size_t k = 0; r == 0 && k < n; k++) {
                disks[k].attach = attaches[k];
                snprintf(disks[k].name, sizeof(disks[k].name), "%s", specs[k].name);
                r = give_to_qemu(m, &attaches[k], err);
        }
        if (r == 0 && i->iso) {
                r = volume_attach(m->store, i->iso, &disks[n].attach, err);
                snprintf(disks[n++].name, sizeof(disks[0].name), "install");
        }
        if (r < 0)
                return r;
        const struct domain_spec spec = {.instance = i->id,
                                         .name = i->name,
                                         .cpus = i->cpus,
                                         .memory = i->memory,
                                         .kvm = m->kvm,
                                         .bridge = bridge,
                                         .mac = i->mac,
                                         .disks = disks,
                                         .n_disks = n,
                                         .boot_cdrom_second = i->iso != NULL,
                                         .emulator = m->config->emulator,
                                         .rbd_user = m->config->ceph_user,
                                         .rbd_secret = m->rbd_secret,
                                         .lock_path = lock_path,
                                         .lease = *key};
        return domain_xml(&spec, ret, err);
}

/* -EBUSY: one has not died. */
static int kill_processes(struct guest *g, struct err *err)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        size_t n = 0;
        int r = virt_processes(&list, &n, err), result = 0;

        for (size_t i = 0; r == 0 && i < n; i++)
                if (streq(list[i].lease.instance, g->id) && virt_kill_pid(list[i].pid, g->id, err) < 0)
                        result = -EBUSY;
        return r < 0 ? r : result;
}

int guest_kill(struct guest *g, struct err *err)
{
        int r, result;

        pthread_mutex_lock(&g->lock);
        g->ending = true;
        pthread_mutex_unlock(&g->lock);
        /* By process first: that needs nobody's leave, and finds what libvirtd has forgotten. */
        result = kill_processes(g, err);
        r = result == -EBUSY ? 0 : result;
        if (r == 0)
                r = virt_kill(g->m->virt, g->id, err);
        pthread_mutex_lock(&g->lock);
        g->ending = false;
        g->fenced = g->io_error = g->powered_off = g->ended_event = false;
        g->io_errors = 0;
        g->known_pid = 0;
        pthread_mutex_unlock(&g->lock);
        g->ran = false;
        return r < 0 ? r : result;
}

int guest_claim(struct guest *g, const struct guest_look *l, struct lease *ret, struct err *err)
{
        return lease_claim(g->m->store, g->id, &l->lease, g->m->number, ret, err);
}

/* fence, QEMU; the gate says yes in between, on its own thread. */
static int start_claimed(struct guest *g, const struct guest_look *l, const struct lease *mine,
                         struct start_phases *p, struct err *err)
{
        struct manager *m = g->m;
        const struct instance *i = &l->instance;
        struct domain_lease key = {.epoch = mine->epoch};
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(i, disks);
        _cleanup_(freep) char *xml = NULL;
        int64_t t = clock_ms();
        int r;

        r = guest_seat_take(g, i, err);
        if (r < 0)
                return r;
        snprintf(key.instance, sizeof(key.instance), "%s", g->id);
        start_init(&key.start, g->id, mine->epoch, NULL);
        r = lease_fence(m->store, g->id, mine, &key.start, disks, n, err);
        p->fence_ms = clock_ms() - t;
        clock_stamp(p->fence_since);
        if (r == 0)
                r = guest_xml(m, i, mine, &key, m->config->bridge, &xml, err);
        if (r < 0)
                return r;
        /* What a late migration brought here during the claim, should libvirtd have forgotten it by now. */
        r = kill_processes(g, err);
        if (r < 0)
                return r;
        dhcp_add(m, g->id, i->name, i->mac, i->address);
        p->begun_ms = clock_ms();
        pthread_mutex_lock(&g->lock);
        g->starting = key.start;
        g->starting_epoch = mine->epoch;
        g->phases = *p;
        pthread_mutex_unlock(&g->lock);
        r = virt_start(m->virt, xml, err);
        pthread_mutex_lock(&g->lock);
        g->starting = (struct start){0};
        pthread_mutex_unlock(&g->lock);
        if (r < 0) {
                struct err ignored = {0};

                guest_kill(g, &ignored);
                start_forget(m->store, g->id, &key.start);
        }
        return r;
}

static void start_failed(struct guest *g, const struct guest_look *l, const struct lease *mine,
                         const struct err *why)
{
        struct err ignored = {0};

        guest_record_status(g->m, g->id, "failed", mine, err_text(why), false, &ignored);
        event_add(g->m, "start-failed", g->id, l->instance.name, "%s", err_text(why));
        if (guest_failover(l))
                guest_hand_on(g, l, mine, why);
}

int guest_start(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct manager *m = g->m;
        const struct instance *i = &l->instance;
        struct start_phases p = {.failover = guest_failover(l) != NULL};
        int64_t t = clock_ms();
        struct lease mine;
        int r;

        r = guest_kill(g, err);
        if (r < 0)
                return r;
        r = guest_claim(g, l, &mine, err);
        if (r == -ESTALE) /* another host won: nothing to do here, and the next look says so */
                return 0;
        if (r < 0)
                return r;
        p.claim_ms = clock_ms() - t;
        start_forget(m->store, g->id, &i->start);
        r = start_claimed(g, l, &mine, &p, err);
        if (r < 0) {
                start_failed(g, l, &mine, err);
                return r;
        }
        g->started_ms = clock_ms();
        g->ran = true;
        if (guest_failover(l))
                event_add(m, "failover", g->id, i->name,
                          "runs here now: claim %lld ms, fence %lld ms, start %lld ms",
                          (long long)p.claim_ms, (long long)p.fence_ms,
                          (long long)(g->started_ms - p.begun_ms));
        else
                event_add(m, "instance-started", g->id, i->name, "runs at epoch %llu",
                          (unsigned long long)mine.epoch);
        return 0;
}

/* Asks again now and then, and waits for the end of the QEMU, or a forced stop, or the deadline. Returns
 * whether it ended. */
static bool stop_wait(struct guest *g, int64_t until)
{
        int64_t ask = clock_ms() + STOP_ASK_MS;

        while (clock_ms() < until && !g->m->quit) {
                struct virt_domain d;
                struct instance i;
                struct timespec ts;
                bool force;

                if (virt_find(g->m->virt, g->id, &d, NULL) == -ENOENT)
                        return true;
                if (instance_load(g->m->store, g->id, &i, NULL) == 0) {
                        force = i.stop_force || i.wanted == WANTED_DELETED;
                        instance_done(&i);
                        if (force)
                                return false;
                }
                if (clock_ms() >= ask) {
                        virt_shutdown(g->m->virt, g->id, NULL);
                        ask = clock_ms() + STOP_ASK_MS;
                }
                clock_gettime(CLOCK_MONOTONIC, &ts);
                ts.tv_sec++;
                pthread_mutex_lock(&g->lock);
                while (!g->wake && !g->ended_event && !g->m->quit)
                        if (pthread_cond_timedwait(&g->woken, &g->lock, &ts) != 0)
                                break;
                g->wake = false;
                pthread_mutex_unlock(&g->lock);
        }
        return false;
}

int guest_stop(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct manager *m = g->m;
        const struct instance *i = &l->instance;
        int r = 0;

        pthread_mutex_lock(&g->lock);
        g->ending = true;
        g->ended_event = false;
        pthread_mutex_unlock(&g->lock);
        if (!i->stop_force && l->view.qemu == QEMU_RUNNING) {
                r = virt_shutdown(m->virt, g->id, err);
                if (r == 0 && !stop_wait(g, clock_ms() + STOP_PATIENCE_MS)) {
                        if (m->quit) /* the next hostd asks it again: an upgrade of ours is no reason to pull
                                        its plug */
                                return 0;
                        log_info("instance %s: did not power off by itself: ending it", g->id);
                }
        }
        r = guest_kill(g, err); /* clears `ending` and what the end reported */
        g->ended_epoch = l->lease.epoch + 1;
        if (r == 0)
                event_add(m, "instance-stopped", g->id, i->name, "stopped as asked");
        return r;
}
