/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/manager.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <poll.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/guests/guest.h"
#include "hostd/survey.h"

#define SCAN_EVERY_MS 10000
#define THREAD_STACK (512 * 1024)
#define MEMORY_RESERVE (512ULL << 20) /* for the host itself */
#define PULSE_TIMEOUT_MS 1500         /* a heartbeat that takes longer comes too late anyway */

bool manager_trusted(struct manager *m)
{
        return clock_ms() - m->own_write_ms < WATCH_DEAD_MS;
}

struct spawned {
        struct manager *m;
        void (*run)(void *arg);
        void *arg;
};

static void *spawned_main(void *arg)
{
        struct spawned s = *(struct spawned *)arg;

        free(arg);
        s.run(s.arg);
        pthread_mutex_lock(&s.m->lock);
        s.m->n_threads--;
        pthread_cond_broadcast(&s.m->idle);
        pthread_mutex_unlock(&s.m->lock);
        return NULL;
}

int manager_spawn(struct manager *m, void (*run)(void *arg), void *arg)
{
        struct spawned *s = malloc(sizeof(*s));
        pthread_attr_t attr;
        pthread_t thread;
        int r;

        if (!s)
                return -ENOMEM;
        *s = (struct spawned){.m = m, .run = run, .arg = arg};
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attr, THREAD_STACK);
        pthread_mutex_lock(&m->lock);
        m->n_threads++;
        pthread_mutex_unlock(&m->lock);
        r = -pthread_create(&thread, &attr, spawned_main, s);
        pthread_attr_destroy(&attr);
        if (r < 0) {
                pthread_mutex_lock(&m->lock);
                m->n_threads--;
                pthread_mutex_unlock(&m->lock);
                free(s);
        }
        return r;
}

/* With m->lock held. NULL when there is no memory or no thread: the next scan tries again. */
static struct guest *guest_of(struct manager *m, const char *id, bool make, bool *ret_fresh)
{
        struct guest **more, *g;

        *ret_fresh = false;
        for (size_t i = 0; i < m->n_guests; i++)
                if (streq(m->guests[i]->id, id))
                        return m->guests[i];
        if (!make || m->quit)
                return NULL;
        more = realloc(m->guests, (m->n_guests + 1) * sizeof(*more));
        if (!more)
                return NULL;
        m->guests = more;
        if (guest_new(m, id, &g) < 0)
                return NULL;
        m->guests[m->n_guests++] = g;
        *ret_fresh = true;
        return g;
}

void manager_wake(struct manager *m, const char *instance)
{
        struct guest *g;
        bool fresh;

        pthread_mutex_lock(&m->lock);
        g = guest_of(m, instance, true, &fresh);
        if (g && !fresh) {
                pthread_mutex_lock(&g->lock);
                g->wake = true;
                pthread_cond_signal(&g->woken);
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&m->lock);
        if (g && fresh && manager_spawn(m, guest_run, g) < 0) {
                pthread_mutex_lock(&m->lock);
                for (size_t i = 0; i < m->n_guests; i++)
                        if (m->guests[i] == g)
                                m->guests[i] = m->guests[--m->n_guests];
                pthread_mutex_unlock(&m->lock);
                guest_free(g);
        }
}

/* A disk error stopped the guest. libvirt does not tell a refused write (EACCES, ESHUTDOWN) from others, but
 * a full store from both: an error that comes back right after each resume, on a store that is not full, is
 * a refusal. With guest->lock held. */
#define RESUME_EVERY_MS 2000
#define REFUSED_AFTER 3

static void note_io_error(struct guest *g, const char *reason)
{
        int64_t now = clock_ms();

        g->io_error = true;
        g->io_errors = now - g->resume_ms < 2 * RESUME_EVERY_MS ? g->io_errors + 1 : 1;
        g->resume_ms = now + RESUME_EVERY_MS;
        if (g->io_errors >= REFUSED_AFTER && !streq(reason, "enospc"))
                g->fenced = true;
}

/* With guest->lock held. */
static void note_event(struct guest *g, enum virt_event_kind kind, const char *detail)
{
        switch (kind) {
        case VIRT_STARTED:
                g->powered_off = g->fenced = g->io_error = false;
                break;
        case VIRT_RESUMED:
                g->io_error = false;
                break;
        case VIRT_SHUTDOWN:
                g->ended_event = true;
                /* A signal to QEMU, as `virsh destroy` sends it, is nobody's wish to keep the guest off. */
                g->powered_off = !g->ending && !streq(detail, "host");
                break;
        case VIRT_STOPPED:
                g->ended_event = !streq(detail, "migrated");
                break;
        case VIRT_IO_ERROR:
                note_io_error(g, detail);
                break;
        case VIRT_JOB_ENDED:
                /* At the destination, whose gate is asked next: a look now would be in the guest's way. */
                if (streq(detail, "completed"))
                        return;
                break;
        default:
                break;
        }
        g->wake = true;
        pthread_cond_signal(&g->woken);
}

/* On libvirt's event thread: note it and wake, nothing else. */
static void on_virt_event(void *arg, enum virt_event_kind kind, const char *instance, const char *detail)
{
        struct manager *m = arg;
        struct guest *g;
        bool fresh;

        log_debug("libvirt: %s %s %s", virt_event_name(kind), instance ? instance : "",
                  detail ? detail : "");
        pthread_mutex_lock(&m->lock);
        if (kind == VIRT_CONNECTED || kind == VIRT_DISCONNECTED) {
                m->secret_due = kind == VIRT_CONNECTED && m->rbd_secret;
                m->virt_connected = kind == VIRT_CONNECTED && !m->secret_due;
                m->rescan = true;
        }
        g = instance ? guest_of(m, instance, false, &fresh) : NULL;
        if (g) {
                pthread_mutex_lock(&g->lock);
                note_event(g, kind, detail);
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&m->lock);
        if (!g && (kind == VIRT_STARTED || kind == VIRT_RESUMED))
                manager_wake(m, instance);
}

/* After a new connection, on the main thread: a libvirtd without the key could start nothing, so it counts
 * as connected only when it has it. */
static void manager_give_secret(struct manager *m)
{
        struct err e = {0};
        bool due;
        int r;

        pthread_mutex_lock(&m->lock);
        due = m->secret_due;
        m->secret_due = false;
        pthread_mutex_unlock(&m->lock);
        if (!due)
                return;
        r = manager_secret(m, &e);
        if (r < 0)
                log_warn("host %s: %s; trying again", m->config->name, err_text(&e));
        pthread_mutex_lock(&m->lock);
        if (r == 0)
                m->virt_connected = true; /* were it lost again meanwhile, each call would say so */
        else
                m->secret_due = true;
        pthread_mutex_unlock(&m->lock);
}

/* What should run and waits for a host whose takeover is over: a user's wish, or a placement, that came too
 * late for it. The takeover begins again. */
static void manager_stranded(struct manager *m, const struct survey *s)
{
        _cleanup_(freep) struct ring_host *ring = NULL;

        if (survey_ring(s, &ring) < 0)
                return;
        for (size_t h = 0; h < s->n_hosts; h++) {
                if (ring[h].state != HOST_DEAD || !ring[h].taken_done ||
                    ring_heir(ring, s->n_hosts, ring[h].taken_by) != m->number)
                        continue;
                for (size_t i = 0; i < s->n_instances; i++) {
                        const struct survey_instance *in = &s->instances[i];

                        if (in->wanted != WANTED_RUNNING ||
                            (in->placement ? in->placement : in->lease.host) != ring[h].number)
                                continue;
                        takeover_start(m, ring[h].number);
                        break;
                }
        }
}

/* Everything that concerns this host gets a guest: names and placements on the storage, QEMUs here. */
static void manager_scan(struct manager *m)
{
        struct virt_domain *list = NULL;
        struct survey s;
        struct err e = {0};
        size_t n = 0;

        manager_give_secret(m);
        if (survey_all(m->store, &s, &e) < 0) {
                log_warn("host %s: scan: %s", m->config->name, err_text(&e));
                return;
        }
        for (size_t i = 0; i < s.n_instances; i++) {
                const struct survey_instance *in = &s.instances[i];

                if (in->lease.host == m->number || in->placement == m->number)
                        manager_wake(m, in->id);
        }
        manager_stranded(m, &s);
        survey_done(&s);
        if (virt_processes(&list, &n, &e) < 0)
                log_warn("host %s: processes not listed: %s", m->config->name, err_text(&e));
        for (size_t i = 0; i < n; i++)
                manager_wake(m, list[i].lease.instance);
        free(list);
        dhcp_scan(m);
}

static int manager_stores(struct manager *m, struct err *err)
{
        const struct config *c = m->config;
        struct store_options options = {
            .ceph_conf = c->ceph_conf, .ceph_user = c->ceph_user, .address = c->storage_address};
        int r;

        r = store_open(c->store_url, &options, &m->store, err);
        if (r == 0)
                r = store_prepare(m->store, err);
        options.timeout_ms = PULSE_TIMEOUT_MS;
        if (r == 0)
                r = store_open(c->store_url, &options, &m->pulse, err);
        return r;
}

static int manager_capacity(struct manager *m, struct err *err)
{
        const struct config *c = m->config;
        uint64_t memory = 0;
        int r;

        r = virt_host(m->virt, &m->capacity, err);
        if (r < 0)
                return r;
        m->kvm = streq(c->accel, "kvm") || (streq(c->accel, "auto") && m->capacity.kvm);
        if (m->kvm && !m->capacity.kvm)
                return err_set(
                    err, -EOPNOTSUPP,
                    "[host] accel = kvm, but libvirt offers no KVM on host %s: is /dev/kvm there?", c->name);
        if (atoi(c->cpus_text) > 0)
                m->capacity.cpus = (unsigned)atoi(c->cpus_text);
        r = size_parse(c->memory_text, &memory);
        if (r < 0)
                return err_set(err, r, "[host] memory = %s is not a size such as 64G", c->memory_text);
        if (memory)
                m->capacity.memory = memory;
        else if (m->capacity.memory > 2 * MEMORY_RESERVE)
                m->capacity.memory -= MEMORY_RESERVE;
        return 0;
}

static int manager_connect(struct manager *m, struct err *err)
{
        const struct virt_options options = {
            .uri = m->config->libvirt_uri, .driver_name = "wherry.so", .event = on_virt_event, .arg = m};
        int r;

        r = virt_new(&options, &m->virt, err);
        if (r == 0) {
                m->virt_connected = true;
                r = manager_capacity(m, err);
        }
        return r;
}

int manager_new(const struct config *config, struct manager **ret, struct err *err)
{
        struct manager *m = calloc(1, sizeof(*m));
        pthread_condattr_t attr;
        int r;

        if (!m)
                return err_set(err, -ENOMEM, "out of memory");
        m->config = config;
        uuid_random(m->nonce);
        m->fence = -1;
        pthread_mutex_init(&m->lock, NULL);
        pthread_mutex_init(&m->fence_lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&m->idle, &attr);
        pthread_condattr_destroy(&attr);
        m->number = config->number;
        /* First: a wrong address, or a second hostd, is found out before this host has joined. */
        r = api_listen(m, err);
        if (r == 0)
                r = manager_stores(m, err);
        /* A host that knows its number shows life before it does anything else: an upgrade is no death. */
        if (r == 0 && m->number)
                r = host_beat_start(m, err);
        if (r == 0)
                r = manager_connect(m, err);
        if (r == 0)
                r = manager_secret(m, err);
        if (r == 0)
                r = events_new(m, &m->events, err);
        if (r == 0)
                r = host_join(m, true, err);
        if (r == 0 && !m->beat_running)
                r = host_beat_start(m, err);
        if (r == 0)
                r = gate_new(config->gate_socket, guest_gate, m, &m->gate, err);
        if (r == 0)
                r = http_server_start(m->http, err);
        if (r == 0)
                r = watcher_start(m, err);
        if (r < 0) {
                manager_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

/* Waits for a signal, a wish to scan, or the time of the next scan. Returns false at a signal. */
static bool manager_wait(struct manager *m, int signals, int64_t until)
{
        while (clock_ms() < until) {
                struct pollfd p = {.fd = signals, .events = POLLIN};
                bool rescan;

                pthread_mutex_lock(&m->lock);
                rescan = m->rescan;
                m->rescan = false;
                pthread_mutex_unlock(&m->lock);
                if (rescan)
                        return true;
                if (poll(&p, 1, 100) > 0)
                        return false;
        }
        return true;
}

int manager_run(struct manager *m, struct err *err)
{
        _cleanup_(closep) int signals = -1;
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        signals = signalfd(-1, &set, SFD_CLOEXEC); /* main() blocked them before the first thread */
        if (signals < 0)
                return err_set(err, -errno, "signalfd: %s", strerror(errno));
        manager_scan(m);
        m->lift_ms = clock_ms(); /* a host that has just started has other things to do */
        sd_notifyf(0, "READY=1\nSTATUS=host %s, number %u, store %s", m->config->name, m->number,
                   m->config->store_url);
        log_info("host %s: ready, store %s", m->config->name, m->config->store_url);
        while (manager_wait(m, signals, clock_ms() + SCAN_EVERY_MS)) {
                sd_notify(0, "WATCHDOG=1");
                manager_scan(m);
                lift_start(m);
        }
        sd_notify(0, "STOPPING=1");
        log_info("host %s: orderly end: guests run on", m->config->name);
        host_leave(m);
        return 0;
}

static void wake_all(struct manager *m)
{
        for (size_t i = 0; i < m->n_guests; i++) {
                pthread_mutex_lock(&m->guests[i]->lock);
                pthread_cond_signal(&m->guests[i]->woken);
                pthread_mutex_unlock(&m->guests[i]->lock);
        }
}

struct manager *manager_free(struct manager *m)
{
        if (!m)
                return NULL;
        m->quit = true;
        m->http = http_server_free(m->http);
        pthread_mutex_lock(&m->lock);
        wake_all(m);
        while (m->n_threads > 0)
                pthread_cond_wait(&m->idle, &m->lock);
        pthread_mutex_unlock(&m->lock);
        m->gate = gate_free(m->gate);
        if (m->watch_running)
                pthread_join(m->watch_thread, NULL);
        m->beat_quit = true;
        if (m->beat_running)
                pthread_join(m->beat_thread, NULL);
        m->events = events_free(m->events);
        m->virt = virt_free(m->virt);
        m->store = store_close(m->store);
        m->pulse = store_close(m->pulse);
        free(m->guests);
        free(m->takeovers);
        free(m->lift_proofs);
        free(m->rbd_secret);
        pthread_cond_destroy(&m->idle);
        pthread_mutex_destroy(&m->fence_lock);
        pthread_mutex_destroy(&m->lock);
        free(m);
        return NULL;
}
