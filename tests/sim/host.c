/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "hostd/dhcp.h"
#include "hostd/hostd.h"
#include "hostd/ring/ring.h"
#include "hostd/self.h"
#include "hostd/tasks.h"
#include "migrate/planner.h"
#include "migrate/identity.h"
#include "migrate/watch.h"
#include "tests/sim/world.h"

/* A host's life: power, and its hostd under something like systemd, which starts it again when it has ended.
 */

/* Only the seed and the address are left of DHCP here. */
void dhcp_add(struct context *ctx, const char *instance, const char *name, const char *mac,
              const char *address)
{
}

void dhcp_remove(struct context *ctx, const char *instance)
{
}

void dhcp_scan(struct context *ctx, void (*wake)(struct context *ctx, const char *instance))
{
}

enum identity_action __wrap_identity_decide(const struct identity_view *v);
enum identity_action __real_identity_decide(const struct identity_view *v);
enum identity_verdict __wrap_identity_check(const struct machine *me, const char *nonce, uint64_t epoch,
                                            const struct machine *machine, const char *record_nonce,
                                            uint64_t record_epoch);
enum identity_verdict __real_identity_check(const struct machine *me, const char *nonce, uint64_t epoch,
                                            const struct machine *machine, const char *record_nonce,
                                            uint64_t record_epoch);
bool __wrap_watch_waits(const struct watch *w, unsigned number, const struct homecoming *h, int64_t now_ms);
bool __real_watch_waits(const struct watch *w, unsigned number, const struct homecoming *h, int64_t now_ms);

enum identity_action __wrap_identity_decide(const struct identity_view *v)
{
        return W.broken == BREAK_IDENTITY ? IDENTITY_BEAT : __real_identity_decide(v);
}

enum identity_verdict __wrap_identity_check(const struct machine *me, const char *nonce, uint64_t epoch,
                                            const struct machine *machine, const char *record_nonce,
                                            uint64_t record_epoch)
{
        return W.broken == BREAK_IDENTITY && epoch != record_epoch
                   ? IDENTITY_TAKEN
                   : __real_identity_check(me, nonce, epoch, machine, record_nonce, record_epoch);
}

bool __wrap_watch_waits(const struct watch *w, unsigned number, const struct homecoming *h, int64_t now_ms)
{
        return W.broken != BREAK_RETURN && __real_watch_waits(w, number, h, now_ms);
}

void host_init(unsigned machine, unsigned number, const char *store_url)
{
        struct host *h = &W.hosts[machine - 1];

        *h = (struct host){.number = number, .offset_ns = rnd_between(1, 1000000) * SIM_S};
        snprintf(h->name, sizeof(h->name), "h%u%s", number, machine == number ? "" : "'");
        snprintf(h->hostname, sizeof(h->hostname), "h%u", number);
        snprintf(h->address, sizeof(h->address), "10.0.0.%u", machine);
        snprintf(h->listen, sizeof(h->listen), "10.0.0.%u:7070", machine);
        /* With any one host gone there is just room for all. A world that is filled later has plenty. */
        h->memory = planner_memory(SIM_GUEST_MEMORY, 1) *
                    MAX_OF((W.n_instances + W.n_hosts - 2) / MAX_OF(W.n_hosts - 1, 1U), 1U);
        if (W.n_instances == 0)
                h->memory = 256ULL << 30;
        snprintf(h->memory_text, sizeof(h->memory_text), "%llu", (unsigned long long)h->memory);
        h->config = (struct config){.store_url = (char *)store_url,
                                    .name = h->hostname,
                                    .address = h->address,
                                    .storage_address = h->address,
                                    .listen = h->listen,
                                    .accel = (char *)"auto",
                                    .libvirt_uri = (char *)"sim",
                                    .peer_uri = (char *)"sim",
                                    .bridge = (char *)"lo", /* is there wherever this runs */
                                    .cpus_text = (char *)"0",
                                    .memory_text = h->memory_text,
                                    .token = (char *)"a token of the simulator",
                                    .gate_socket = (char *)"sim",
                                    .moves_out = 2,
                                    .moves_in = 2,
                                    .handover_ms = rnd_between(5, 60) * 1000,
                                    .number = number};
}

static void again(void *arg)
{
        struct host *h = arg;

        if (h->powered && !h->hostd && !h->going_down && sched_now() >= h->restart_ns)
                hostd_start(h);
}

static void ended(struct host *h)
{
        h->hostd = NULL;
        h->context = NULL;
        h->virt = NULL;
        h->gate = NULL;
        h->http = NULL;
        h->term = false;
        h->ending_ns = 0;
}

static void start_later(struct host *h, int64_t low_ms, int64_t high_ms)
{
        h->restart_ns = sched_now() + rnd_between(low_ms, high_ms) * SIM_MS;
        event_at(h->restart_ns, again, h);
}

/* hostd's own rounds are ten minutes apart, longer than all that happens here. */
static void lift_often(void *arg)
{
        struct context *ctx = arg;

        while (!ctx->self->quit) {
                poll(NULL, 0, (int)rnd_between(10, W.broken ? 60 : 1500));
                lift_start(ctx);
        }
}

static void hostd_main(void *arg)
{
        struct host *h = arg;
        struct context *ctx = NULL;
        struct err e = {0};
        int r;

        r = hostd_new(&h->config, &ctx, &e);
        if (r == 0) {
                h->context = ctx;
                if (W.kind == FENCE_RBD)
                        task_spawn(ctx->tasks, lift_often, ctx);
                r = hostd_run(ctx, &e);
        }
        h->context = NULL;
        log_info("hostd ends: %s", r < 0 ? err_text(&e) : "as asked");
        h->ending_ns = sched_now();
        if (r == 0)
                hostd_free(ctx);
        struct proc *own = h->hostd;

        ended(h);
        start_later(h, 200, 4000);
        proc_kill(own);
}

void hostd_start(struct host *h)
{
        tell("hostd on %s starts", h->name);
        h->hostd = proc_new(h, "hostd");
        co_spawn(h->hostd, hostd_main, h);
}

void hostd_kill(struct host *h)
{
        struct proc *p = h->hostd;

        if (!p)
                return;
        tell("hostd on %s is killed", h->name);
        ended(h);
        proc_kill(p);
        start_later(h, 100, rnd(3) == 0 ? 20000 : 1500);
}

bool __wrap_shutdown_queued(void);

bool __wrap_shutdown_queued(void)
{
        return host_current()->going_down;
}

static void boot_again(void *arg)
{
        host_power_on(arg);
}

/* TimeoutStopSec= of hostd's unit, and what hostd asks for with each step of a handover. */
#define STOP_NS (30 * SIM_S)

/* In systemd's order: hostd ends, or is ended where it waits for a call of libvirt's that does not return; then
 * libvirt-guests presses the buttons of what is left, and waits a while. */
static void go_down(void *arg)
{
        struct host *h = arg;
        unsigned boots = h->boots;

        while (h->hostd && h->powered) {
                co_sleep(50 * SIM_MS);
                if (h->ending_ns && sched_now() - h->ending_ns >= STOP_NS)
                        hostd_kill(h);
        }
        for (struct qemu *q = h->libvirtd ? h->qemus : NULL; q; q = q->next)
                if (q->alive && q->known) {
                        W.stats.left++;
                        qemu_press(q);
                }
        co_sleep(rnd_between(0, 3000) * SIM_MS);
        if (!h->powered || h->boots != boots)
                return; /* the plug was pulled meanwhile */
        host_power_off(h);
        if (W.quiet || rnd(6) > 0) /* else it stays away until the faults are over */
                event_at(sched_now() + rnd_between(500, rnd(2) ? 20000 : 90000) * SIM_MS, boot_again, h);
}

void host_go_down(struct host *h)
{
        if (!h->powered || h->going_down)
                return;
        tell("%s: goes down in order", h->name);
        h->going_down = true;
        h->term = h->context != NULL;
        if (h->hostd && !h->context) /* it is still starting: systemd ends it */
                hostd_kill(h);
        co_spawn(W.root, go_down, h);
}

void host_power_on(struct host *h)
{
        if (h->powered)
                return;
        h->going_down = false;
        tell("%s: power on", h->name);
        h->powered = true;
        h->powered_ns = sched_now();
        if (W.site_lost && !W.site_back_ns)
                W.site_back_ns = sched_now();
        h->boots++;
        libvirtd_start(h);
        start_later(h, 50, 3000);
}

void host_power_off(struct host *h)
{
        if (!h->powered)
                return;
        tell("%s: power off", h->name);
        hostd_kill(h);
        libvirtd_kill(h, false);
        for (struct qemu *q = h->qemus; q; q = q->next)
                qemu_kill(q);
        h->powered = false;
        for (unsigned i = 0; i < W.n_machines; i++)
                if (W.hosts[i].powered)
                        return;
        tell("the whole site is without power");
        W.site_lost = true;
        W.site_back_ns = 0;
}
