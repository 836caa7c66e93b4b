/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/hostd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "common/clock.h"
#include "common/http-server.h"
#include "common/log.h"
#include "common/machine.h"
#include "common/util.h"
#include "hostd/api.h"
#include "hostd/events.h"
#include "hostd/gate-socket.h"
#include "hostd/guests/guest.h"
#include "hostd/guests/table.h"
#include "hostd/handover.h"
#include "hostd/plug/plug.h"
#include "hostd/ring/ring.h"
#include "hostd/scan.h"
#include "hostd/secret.h"
#include "hostd/self.h"
#include "hostd/shutdown.h"
#include "hostd/tasks.h"

#define MEMORY_RESERVE (512ULL << 20) /* for the host itself */
#define WATCHDOG_EVERY_MS 5000
#define PULSE_TIMEOUT_MS 1500 /* a heartbeat that takes longer comes too late anyway */

/* On libvirt's event thread: note it and wake, nothing else. */
static void on_virt_event(void *arg, enum virt_event_kind kind, const char *instance, const char *detail)
{
        struct context *ctx = arg;
        struct self *self = ctx->self;

        log_debug("libvirt: %s %s %s", virt_event_name(kind), instance ? instance : "",
                  detail ? detail : "");
        if (kind == VIRT_CONNECTED || kind == VIRT_DISCONNECTED) {
                bool key = kind == VIRT_CONNECTED && ctx->rbd_secret;

                if (self->virt_connected && kind == VIRT_DISCONNECTED)
                        self->virt_lost_ms = clock_ms();
                self->virt_connected = kind == VIRT_CONNECTED && !key;
                self->secret_due = key;
                self->rescan = true;
        }
        if (instance)
                guests_event(ctx, kind, instance, detail);
}

static int open_stores(struct context *ctx, struct err *err)
{
        const struct config *c = ctx->config;
        struct store_options options = {.ceph_conf = c->ceph_conf,
                                        .ceph_user = c->ceph_user,
                                        .address = c->storage_address,
                                        .small = true};
        int r;

        r = store_open(c->store_url, &options, &ctx->store, err);
        if (r == 0)
                r = store_prepare(ctx->store, err);
        options.timeout_ms = PULSE_TIMEOUT_MS;
        if (r == 0)
                r = store_open(c->store_url, &options, &ctx->pulse, err);
        return r;
}

static int host_capacity(struct context *ctx, struct err *err)
{
        const struct config *c = ctx->config;
        uint64_t memory = 0;
        int r;

        r = virt_host(ctx->virt, &ctx->capacity, err);
        if (r < 0)
                return r;
        ctx->kvm = streq(c->accel, "kvm") || (streq(c->accel, "auto") && ctx->capacity.kvm);
        if (ctx->kvm && !ctx->capacity.kvm)
                return err_set(
                    err, -EOPNOTSUPP,
                    "[host] accel = kvm, but libvirt offers no KVM on host %s: is /dev/kvm there?", c->name);
        if (atoi(c->cpus_text) > 0)
                ctx->capacity.cpus = (unsigned)atoi(c->cpus_text);
        r = size_parse(c->memory_text, &memory);
        if (r < 0)
                return err_set(err, r, "[host] memory = %s is not a size such as 64G", c->memory_text);
        if (memory)
                ctx->capacity.memory = memory;
        else if (ctx->capacity.memory > 2 * MEMORY_RESERVE)
                ctx->capacity.memory -= MEMORY_RESERVE;
        return 0;
}

static int connect_libvirt(struct context *ctx, struct err *err)
{
        const struct virt_options options = {
            .uri = ctx->config->libvirt_uri, .driver_name = "wherry.so", .event = on_virt_event, .arg = ctx};
        int r;

        r = virt_new(&options, &ctx->virt, err);
        if (r == 0) {
                ctx->self->virt_connected = true;
                r = host_capacity(ctx, err);
        }
        return r;
}

static int make_parts(struct context *ctx, struct err *err)
{
        struct machine machine;
        int r;

        ctx->self = calloc(1, sizeof(*ctx->self));
        r = ctx->self ? tasks_new(&ctx->tasks) : -ENOMEM;
        if (r == 0)
                r = guests_new(&ctx->guests);
        if (r == 0)
                r = ring_new(&ctx->ring);
        if (r == 0)
                r = plug_new(&ctx->plug);
        if (r < 0)
                return err_set(err, r, "out of memory");
        ctx->self->fence = -1;
        machine_self(&machine);
        memcpy(ctx->self->boot, machine.boot, sizeof(ctx->self->boot));
        return 0;
}

/* A machine that may not join may still have guests, of a hostd that ran here before the other machine joined:
 * this one stays to end those that are nobody's any more. */
static int enter(struct context *ctx, struct err *err)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        size_t n = 0;
        int r = ring_enter(ctx, err), left;

        if (r != -EBUSY || connect_libvirt(ctx, NULL) < 0)
                return r;
        left = virt_processes(ctx->virt, &list, &n, NULL);
        if (left < 0 || (left == 0 && n == 0))
                return r;
        log_error("host %s: %s; until then this hostd only ends guests that are not this machine's any more",
                  ctx->config->name, err_text(err));
        ctx->self->replaced = true;
        return 0;
}

static int join(struct context *ctx, struct err *err)
{
        int r;

        if (ctx->self->replaced)
                return 0;
        r = ring_join(ctx, err);
        return r == 0 && !beat_running(ctx) ? beat_start(ctx, err) : r;
}

/* Connect, join, listen; the order is the story. */
static int bring_up(struct context *ctx, struct err *err)
{
        int r = make_parts(ctx, err);

        /* First: a wrong address, or a second hostd, is found out before this host has joined. */
        if (r == 0)
                r = api_listen(ctx, err);
        if (r == 0)
                r = open_stores(ctx, err);
        if (r == 0)
                r = enter(ctx, err);
        if (r == 0 && !ctx->virt)
                r = connect_libvirt(ctx, err);
        if (r == 0)
                r = secret_give(ctx, err);
        if (r == 0)
                r = events_new(ctx, &ctx->events, err);
        if (r == 0)
                r = join(ctx, err);
        if (r == 0)
                r = gate_new(ctx->config->gate_socket, guest_gate, ctx, &ctx->gate, err);
        if (r == 0)
                r = http_server_start(ctx->http, err);
        if (r == 0)
                r = plug_start(ctx, err);
        return r == 0 && !ctx->self->replaced ? watch_start(ctx, err) : r;
}

int hostd_new(const struct config *config, struct context **ret, struct err *err)
{
        struct context *ctx = calloc(1, sizeof(*ctx));
        int r;

        if (!ctx)
                return err_set(err, -ENOMEM, "out of memory");
        ctx->config = config;
        ctx->number = config->number;
        uuid_random(ctx->nonce);
        r = bring_up(ctx, err);
        if (r < 0) {
                hostd_free(ctx);
                return r;
        }
        *ret = ctx;
        return 0;
}

/* Only signals and systemd's watchdog: nothing here may wait for the storage, for libvirt or for a host. */
static int serve(struct context *ctx, int signals, struct err *err)
{
        struct pollfd p = {.fd = signals, .events = POLLIN};
        int64_t fed = 0;

        while (poll(&p, 1, 100) <= 0) {
                if (clock_ms() - fed >= WATCHDOG_EVERY_MS) {
                        sd_notify(0, "WATCHDOG=1");
                        fed = clock_ms();
                }
                if (ctx->self->superseded)
                        return 1;
                if (ctx->self->nothing_left)
                        return err_set(
                            err, -EEXIST,
                            "host %s: another machine has joined as number %u, and no guest of that "
                            "number is left here",
                            ctx->config->name, ctx->number);
        }
        sd_notify(0, "STOPPING=1");
        if (shutdown_queued())
                handover_run(ctx);
        else
                log_info("host %s: orderly end: guests run on", ctx->config->name);
        ring_leave(ctx);
        return 0;
}

int hostd_run(struct context *ctx, struct err *err)
{
        _cleanup_(closep) int signals = -1;
        sigset_t set;
        int r;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        signals = signalfd(-1, &set, SFD_CLOEXEC); /* main() blocked them before the first thread */
        if (signals < 0)
                return err_set(err, -errno, "signalfd: %s", strerror(errno));
        r = scan_start(ctx, err);
        if (r < 0)
                return r;
        sd_notifyf(0, "READY=1\nSTATUS=host %s, number %u, store %s", ctx->config->name, ctx->number,
                   ctx->config->store_url);
        log_info("host %s: ready, store %s", ctx->config->name, ctx->config->store_url);
        return serve(ctx, signals, err);
}

struct context *hostd_free(struct context *ctx)
{
        if (!ctx)
                return NULL;
        if (ctx->self)
                ctx->self->quit = true;
        ctx->http = http_server_free(ctx->http);
        if (ctx->plug)
                plug_end(ctx->plug);
        if (ctx->guests)
                guests_wake_all(ctx);
        ctx->tasks = tasks_free(ctx->tasks);
        ctx->gate = gate_free(ctx->gate);
        ctx->ring = ring_free(ctx->ring);
        ctx->plug = plug_free(ctx->plug);
        ctx->events = events_free(ctx->events);
        ctx->virt = virt_free(ctx->virt);
        ctx->guests = guests_free(ctx->guests);
        ctx->store = store_close(ctx->store);
        ctx->pulse = store_close(ctx->pulse);
        free(ctx->rbd_secret);
        free(ctx->self);
        free(ctx);
        return NULL;
}
