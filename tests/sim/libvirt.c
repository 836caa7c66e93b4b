/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "tests/sim/world.h"

/*
 * libvirtd as docs/ownership.md describes it, behind hostd's virt.h: it asks the gate before vCPUs run for whatever
 * reason, its calls go on when the hostd that made them has died, it restarts and may have forgotten a QEMU.
 */

/* --- events --- */

struct virt_note {
        struct virt_note *next;
        enum virt_event_kind kind;
        char instance[UUID_LEN + 1], detail[24];
};

static void note_to(struct virt *v, enum virt_event_kind kind, const char *instance, const char *detail)
{
        struct virt_note *n = calloc(1, sizeof(*n));

        assert(n);
        n->kind = kind;
        snprintf(n->instance, sizeof(n->instance), "%s", instance ? instance : "");
        snprintf(n->detail, sizeof(n->detail), "%s", detail ? detail : "");
        *v->notes_end = n;
        v->notes_end = &n->next;
        co_wake(v, true);
}

void virt_note(struct host *h, enum virt_event_kind kind, const char *instance, const char *detail)
{
        if (h->virt && h->virt->connected && h->libvirtd)
                note_to(h->virt, kind, instance, detail);
}

static void virt_thread(void *arg)
{
        struct virt *v = arg;

        while (!v->stop) {
                struct virt_note *n = v->notes;

                if (!n) {
                        co_wait(v, sched_now() + SIM_S);
                        if (!v->connected && v->host->libvirtd) {
                                v->connected = true;
                                note_to(v, VIRT_CONNECTED, NULL, NULL);
                        }
                        continue;
                }
                v->notes = n->next;
                if (!v->notes)
                        v->notes_end = &v->notes;
                co_sleep(rnd_between(20, 3000) * SIM_US);
                v->event(v->arg, n->kind, n->instance[0] ? n->instance : NULL, n->detail);
                free(n);
        }
}

int virt_new(const struct virt_options *options, struct virt **ret, struct err *err)
{
        struct host *h = host_current();
        struct virt *v;

        co_sleep(rnd_between(1, 50) * SIM_MS);
        if (!h->libvirtd)
                return err_set(err, -ECONNREFUSED, "libvirt does not answer");
        v = calloc(1, sizeof(*v));
        assert(v);
        *v = (struct virt){.host = h, .event = options->event, .arg = options->arg, .connected = true};
        v->notes_end = &v->notes;
        h->virt = v;
        v->thread = co_spawn(proc_current(), virt_thread, v);
        *ret = v;
        return 0;
}

struct virt *virt_free(struct virt *v)
{
        if (!v)
                return NULL;
        v->stop = true;
        co_wake(v, true);
        co_join(v->thread);
        if (v->host->virt == v)
                v->host->virt = NULL;
        free(v);
        return NULL;
}

const char *virt_event_name(enum virt_event_kind k)
{
        static const char *const names[VIRT_EVENT_KIND_MAX] = {
            "connected", "disconnected", "started",  "resumed",   "suspended",
            "shutdown",  "stopped",      "io-error", "powerdown", "job-ended"};

        return names[k];
}

int virt_host(struct virt *v, struct virt_host *ret, struct err *err)
{
        *ret = (struct virt_host){.cpus = 64, .memory = 256ULL << 30, .kvm = true};
        snprintf(ret->cpu_model, sizeof(ret->cpu_model), "sim");
        return 0;
}

/* --- calls: carried out by libvirtd, whoever waits for them --- */

static void call_main(void *arg)
{
        struct call *c = arg;

        co_sleep(rnd_between(100, 5000) * SIM_US);
        c->result = c->run(c);
        for (struct call **p = &c->host->calls; *p; p = &(*p)->next)
                if (*p == c) {
                        *p = c->next;
                        break;
                }
        c->done = true;
        co_wake(c, true);
}

static int call_run(struct virt *v, int (*run)(struct call *c), const char *instance, const char *xml,
                    unsigned to, struct err *err)
{
        struct host *h = v->host;
        struct call *c;

        if (!h->libvirtd)
                return err_set(err, -ENOTCONN, "no connection to libvirt");
        c = calloc(1, sizeof(*c));
        assert(c);
        *c = (struct call){.host = h, .run = run, .to = to, .xml = xml ? strdup(xml) : NULL};
        snprintf(c->instance, sizeof(c->instance), "%s", instance ? instance : "");
        c->next = h->calls;
        h->calls = c;
        co_spawn(h->libvirtd, call_main, c);
        while (!c->done)
                co_wait(c, SIM_NEVER);
        co_sleep(rnd_between(20, 500) * SIM_US);
        if (c->result < 0 && err)
                *err = c->err;
        return c->result;
}

/* The domain's lock is held while the gate is asked. */
static struct qemu *find_unlocked(struct host *h, const char *instance)
{
        struct qemu *q;

        while ((q = qemu_find(h, instance)) && q->asking)
                co_wait(&q->asking, sched_now() + 50 * SIM_MS);
        return q;
}

/* --- what hostd asks for --- */

static int run_start(struct call *c)
{
        struct qemu *q;
        int r;

        q = qemu_find(c->host, c->instance);
        if (q)
                return err_set(&c->err, -EEXIST, "the domain exists");
        if (!W.quiet && rnd(60) == 0) /* it hangs, and goes on when nobody waits any more */
                co_sleep(rnd_between(60, 300) * SIM_S);
        q = qemu_new(c->host, c->xml, QEMU_ALONE);
        libvirt_ask(q, GATE_REGISTER, &r, &c->err);
        if (r == 0)
                co_sleep(!W.quiet && rnd(60) == 0
                             ? rnd_between(60, 300) * SIM_S
                             : rnd_between(50, 600) * SIM_MS); /* until its monitor answers */
        if (r == 0 && q->alive && rnd(60) == 0 && !W.quiet)
                r = err_set(&c->err, -EIO, "QEMU does not start");
        if (r == 0 && (!q->alive || !libvirt_may_run(q, proc_current())))
                r = err_set(&c->err, -EACCES, "resource busy");
        if (r == 0 && !qemu_activate(q))
                r = err_set(&c->err, -EBUSY, "failed to get the write lock");
        if (r < 0) {
                qemu_kill(q);
                return r;
        }
        co_sleep(rnd_between(1, 20) * SIM_MS);
        if (!q->alive)
                return err_set(&c->err, -EIO, "QEMU ended");
        qemu_run(q, true);
        qemu_guest(q);
        virt_note(c->host, VIRT_STARTED, c->instance, "booted");
        virt_note(c->host, VIRT_RESUMED, c->instance, "unpaused");
        return 0;
}

bool virt_unanswered(int r)
{
        return r == -ENOTCONN;
}

int virt_start(struct virt *v, const char *xml, struct err *err)
{
        const char *uuid = strstr(xml, "<uuid>");
        char instance[UUID_LEN + 1] = "";

        if (uuid)
                snprintf(instance, sizeof(instance), "%.36s", uuid + 6);
        return call_run(v, run_start, instance, xml, 0, err);
}

static int run_shutdown(struct call *c)
{
        struct qemu *q = find_unlocked(c->host, c->instance);

        if (!q)
                return err_set(&c->err, -ENOENT, "no domain");
        qemu_press(q);
        return 0;
}

int virt_shutdown(struct virt *v, const char *instance, struct err *err)
{
        return call_run(v, run_shutdown, instance, NULL, 0, err);
}

static int run_kill(struct call *c)
{
        struct qemu *q = find_unlocked(c->host, c->instance);

        if (!q)
                return 0;
        qemu_kill(q);
        virt_note(c->host, VIRT_STOPPED, c->instance, "destroyed");
        return 0;
}

int virt_kill(struct virt *v, const char *instance, struct err *err)
{
        const struct qemu *q = qemu_find(v->host, instance);

        if (q)
                disk_check_kill(q->disk, q);
        return call_run(v, run_kill, instance, NULL, 0, err);
}

static int run_resume(struct call *c)
{
        struct qemu *q = find_unlocked(c->host, c->instance);

        if (!q)
                return err_set(&c->err, -ENOENT, "no domain");
        if (q->running)
                return 0;
        if (q->phase == QEMU_INCOMING || q->job)
                return err_set(&c->err, -EBUSY, "a job has the domain");
        if (!libvirt_may_run(q, proc_current()) || !qemu_activate(q))
                return err_set(&c->err, -EACCES, "resource busy");
        qemu_run(q, false);
        virt_note(c->host, VIRT_RESUMED, c->instance, "unpaused");
        return 0;
}

void libvirt_resume(struct qemu *q)
{
        struct call *c = calloc(1, sizeof(*c));

        assert(c);
        *c = (struct call){.host = q->host, .run = run_resume, .abandoned = true};
        memcpy(c->instance, q->lease.instance, sizeof(c->instance));
        c->next = q->host->calls;
        q->host->calls = c;
        co_spawn(q->host->libvirtd, call_main, c);
}

int virt_resume(struct virt *v, const char *instance, struct err *err)
{
        return call_run(v, run_resume, instance, NULL, 0, err);
}

int virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err)
{
        struct host *h = v->host;
        struct proc *libvirtd = h->libvirtd;
        struct qemu *q;

        if (!libvirtd)
                return err_set(err, -ENOTCONN, "no connection to libvirt");
        co_sleep(rnd_between(50, 1000) * SIM_US);
        q = find_unlocked(h, instance);
        if (h->libvirtd != libvirtd)
                return err_set(err, -ENOTCONN, "the connection to libvirt is lost");
        if (!q)
                return err_set(err, -ENOENT, "no domain");
        *ret = (struct virt_domain){.lease = q->lease, .pid = q->pid, .running = q->running, .job = q->job};
        snprintf(ret->reason, sizeof(ret->reason), "%s", q->reason);
        return 0;
}

int virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        size_t n = 0;
        struct virt_domain *list;

        co_sleep(rnd_between(50, 1000) * SIM_US);
        for (const struct qemu *q = host_current()->qemus; q; q = q->next)
                n += q->alive;
        list = calloc(n + 1, sizeof(*list));
        assert(list);
        n = 0;
        for (const struct qemu *q = host_current()->qemus; q; q = q->next)
                if (q->alive) {
                        list[n] = (struct virt_domain){.pid = q->pid};
                        memcpy(list[n++].lease.instance, q->lease.instance, UUID_LEN + 1);
                }
        *ret = list;
        *ret_n = n;
        return 0;
}

int virt_kill_pid(struct virt *v, pid_t pid, const char *instance, struct err *err)
{
        struct qemu *q;

        co_sleep(rnd_between(50, 3000) * SIM_US);
        q = qemu_alive(pid);
        if (!q)
                return 0;
        assert(q->host == host_current() && streq(q->lease.instance, instance));
        disk_check_kill(q->disk, q);
        virt_note(q->host, VIRT_STOPPED, instance, "failed");
        qemu_kill(q);
        co_sleep(rnd_between(1, 200) * SIM_MS);
        return 0;
}

int virt_migrate_abort(struct virt *v, const char *instance, struct err *err)
{
        struct qemu *q = v->host->libvirtd ? qemu_find(v->host, instance) : NULL;

        if (!q || !q->job)
                return err_set(err, -EINVAL, "no job to end");
        q->abort_job = true;
        co_sleep(rnd_between(1, 30) * SIM_MS);
        return 0;
}

int virt_migrate_progress(struct virt *v, const char *instance, struct virt_progress *ret, struct err *err)
{
        snprintf(ret->state, sizeof(ret->state), "none");
        return 0;
}

int virt_migrate(struct virt *v, const struct virt_migration *m, struct virt_progress *ret, struct err *err)
{
        W.stats.migrations++;
        return call_run(v, libvirt_migrate, m->instance, m->xml,
                        (unsigned)atoi(strrchr(m->migrate_uri, '.') + 1), err);
}

/* The log of the newest QEMU here. */
int virt_ended(const char *name, struct virt_end *ret, struct err *err)
{
        for (const struct qemu *q = host_current()->qemus; q; q = q->next)
                if (streq(q->disk->name, name)) {
                        *ret = (struct virt_end){.off = q->off, .pressed = q->pressed_ns != 0};
                        ret->pressed_ms = q->pressed_ns ? (q->ended_ns - q->pressed_ns) / SIM_MS : 0;
                        return 0;
                }
        return err_set(err, -ENOENT, "no log");
}

int virt_secret(struct virt *v, const char *usage, const char *key_base64, struct err *err)
{
        return 0;
}

int virt_tls_ready(const struct virt_host *host, const char *address, struct err *err)
{
        return 0;
}

int virt_console(struct virt *v, const char *instance, int fd, struct err *err)
{
        return err_set(err, -EOPNOTSUPP, "no console");
}

/* --- its life --- */

static void again(void *arg)
{
        struct host *h = arg;

        if (h->powered && !h->libvirtd && !h->no_libvirtd)
                libvirtd_start(h);
}

static void recover_main(void *arg)
{
        libvirt_recover(arg);
}

void libvirtd_start(struct host *h)
{
        h->libvirtd = proc_new(h, "libvirtd");
        co_spawn(h->libvirtd, recover_main, h);
        if (h->virt)
                co_wake(h->virt, true);
}

void libvirtd_kill(struct host *h, bool forgets)
{
        struct call *c;

        if (!h->libvirtd)
                return;
        tell("libvirtd on %s dies", h->name);
        if (h->virt && h->virt->connected) {
                note_to(h->virt, VIRT_DISCONNECTED, NULL, NULL);
                h->virt->connected = false;
        }
        proc_kill(h->libvirtd);
        h->libvirtd = NULL;
        while ((c = h->calls)) {
                h->calls = c->next;
                c->result = err_set(&c->err, -ENOTCONN, "the connection to libvirt broke");
                c->done = true;
                co_wake(c, true);
        }
        for (struct qemu *q = h->qemus; q; q = q->next) {
                if (!q->alive)
                        continue;
                q->asking = false;
                if (q->disk->second_locked == q) /* its file locks go with it */
                        q->disk->second_locked = NULL;
                if (forgets && rnd(2) == 0)
                        q->known = false;
        }
        h->libvirtd_again_ns = sched_now() + rnd_between(100, rnd(6) == 0 ? 40000
                                                              : rnd(2)    ? 1000
                                                                          : 6000) *
                                                 SIM_MS;
        event_at(h->libvirtd_again_ns, again, h);
}
