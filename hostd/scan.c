/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/scan.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/dhcp.h"
#include "hostd/events.h"
#include "hostd/guests/table.h"
#include "hostd/peers.h"
#include "hostd/record.h"
#include "hostd/ring/ring.h"
#include "hostd/ready.h"
#include "hostd/secret.h"
#include "hostd/self.h"
#include "hostd/survey.h"
#include "migrate/isolation.h"
#include "hostd/tasks.h"

#define SCAN_EVERY_MS 10000
#define LEFT_EVERY_MS 1000 /* where only what is on this machine is looked for */

/* After a new connection, on the scan task: a libvirtd without the key could start nothing, so it counts
 * as connected only when it has it. */
static void give_secret(struct context *ctx)
{
        struct err e = {0};
        int r;

        if (!atomic_exchange(&ctx->self->secret_due, false))
                return;
        r = secret_give(ctx, &e);
        if (r < 0)
                log_warn("host %s: %s; trying again", ctx->config->name, err_text(&e));
        if (r == 0)
                ctx->self->virt_connected = true; /* were it lost again meanwhile, each call would say so */
        else
                ctx->self->secret_due = true;
}

/* Whatever has been written without an answer and lands later: the next scan sees it. */
static int edit_uplink(json_t *doc, void *arg, struct err *err)
{
        const struct context *ctx = arg;
        bool dead = ctx->self->uplink != UPLINK_GOOD;

        (void)err;
        if (!streq(json_get_str(doc, "nonce", ""), ctx->nonce) ||
            json_get_bool(doc, "uplink_dead", false) == dead)
                return 0;
        json_object_set_new(doc, "uplink_dead", json_boolean(dead));
        return 1;
}

/* The others give a host without a network no guests. */
static void tell_uplink(struct context *ctx, const struct survey *s)
{
        bool dead = ctx->self->uplink != UPLINK_GOOD;
        char id[PEER_ID_LEN];
        struct err e = {0};

        for (size_t i = 0; i < s->n_hosts; i++) {
                if (s->hosts[i].ring.number != ctx->number || s->hosts[i].cut_off == dead)
                        continue;
                peer_id(ctx->number, id);
                if (record_change(ctx->store, RECORD_HOST, id, edit_uplink, ctx, &e) < 0)
                        log_warn("host %s: the state of its uplink is not in its record: %s",
                                 ctx->config->name, err_text(&e));
                else
                        event_add(ctx, dead ? "uplink-dead" : "uplink-works", NULL, NULL,
                                  dead ? "the uplink of host %s has no carrier: it gets no instances"
                                       : "the uplink of host %s works",
                                  ctx->config->name);
        }
}

/* What should run and waits for a host whose takeover is over: a user's wish, or a placement, that came too
 * late for it. The takeover begins again. */
static void scan_stranded(struct context *ctx, const struct survey *s)
{
        _cleanup_(freep) struct ring_host *ring = NULL;

        if (survey_ring(s, &ring) < 0)
                return;
        for (size_t h = 0; h < s->n_hosts; h++) {
                if (!ring[h].taken_done || !takeover_mine(ring, s->n_hosts, &ring[h], ctx->number))
                        continue;
                for (size_t i = 0; i < s->n_instances; i++) {
                        const struct takeover_instance in = survey_seen(s, &s->instances[i]);

                        if (!takeover_stranded(&in, ring[h].number))
                                continue;
                        takeover_start(ctx, ring[h].number);
                        break;
                }
        }
}

/* Where another machine has this host's number: only the QEMUs here get a guest. False: there is none. */
static bool scan_left(struct context *ctx)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        struct err e = {0};
        size_t n = 0;
        int r;

        give_secret(ctx);
        r = virt_processes(ctx->virt, &list, &n, &e);
        if (r < 0) {
                log_warn("host %s: processes not listed: %s", ctx->config->name, err_text(&e));
                return true;
        }
        for (size_t i = 0; i < n; i++)
                guests_wake(ctx, list[i].lease.instance);
        return n > 0 || r > 0; /* r: a process does not show what it is */
}

static void scan_run(struct context *ctx)
{
        struct virt_domain *list = NULL;
        struct survey s;
        struct err e = {0};
        size_t n = 0;
        int r;

        give_secret(ctx);
        ready_tell(ctx);
        if (survey_all(ctx->store, &s, &e) < 0) {
                log_warn("host %s: scan: %s", ctx->config->name, err_text(&e));
                return;
        }
        tell_uplink(ctx, &s);
        for (size_t i = 0; i < s.n_instances; i++) {
                const struct survey_instance *in = &s.instances[i];

                if (in->lease.host == ctx->number || in->placement == ctx->number)
                        guests_wake(ctx, in->id);
        }
        scan_stranded(ctx, &s);
        survey_done(&s);
        r = virt_processes(ctx->virt, &list, &n, &e);
        if (r < 0)
                log_warn("host %s: processes not listed: %s", ctx->config->name, err_text(&e));
        for (size_t i = 0; i < n; i++)
                guests_wake(ctx, list[i].lease.instance);
        if (r == 0)
                guests_scanned(ctx);
        free(list);
        dhcp_scan(ctx, guests_wake);
}

static void scan_main(void *arg)
{
        struct context *ctx = arg;
        int64_t next;

        while (!ctx->self->quit) {
                next = clock_ms() + (ctx->self->replaced ? LEFT_EVERY_MS : SCAN_EVERY_MS);
                if (ctx->self->replaced) {
                        ctx->self->nothing_left = !scan_left(ctx);
                } else {
                        scan_run(ctx);
                        lift_start(ctx);
                }
                while (!ctx->self->quit && clock_ms() < next && !atomic_exchange(&ctx->self->rescan, false))
                        poll(NULL, 0, 100);
        }
}

int scan_start(struct context *ctx, struct err *err)
{
        int r;

        lift_later(ctx); /* a host that has just started has other things to do */
        r = task_spawn(ctx->tasks, scan_main, ctx);
        return r < 0 ? err_set(err, r, "cannot start a thread: %s", strerror(-r)) : 0;
}
