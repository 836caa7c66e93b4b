/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/handover.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-daemon.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/events.h"
#include "hostd/guests/admission.h"
#include "hostd/guests/table.h"
#include "hostd/peers.h"
#include "hostd/self.h"
#include "hostd/survey.h"
#include "migrate/handover.h"

/*
 * Carries out migrate's handover machine. A live move is a request in the record, as a user's is, and the
 * guest's own thread carries it out. A stop is a note to that thread; once its QEMU is gone, the placement
 * in the record lets the target claim.
 */
#define STEP_MS 200
#define EXTEND_US "30000000" /* how long systemd waits for the next sign of life, beyond TimeoutStopSec */

struct handing {
        struct context *ctx;
        struct handover work;
        struct survey survey;
        struct planner_host *hosts;
        size_t n_hosts;
        struct failover_seat *seats;
        struct failover_item *items;
        struct handover_guest *guests;
        int64_t *serials;    /* of the live move that was asked for */
        uint64_t *placed_at; /* the epoch of the placement that was written, plus one */
};

struct request {
        const struct failover_item *item;
        uint64_t epoch;
        int64_t serial; /* out; 0: nobody wants it to run any more */
};

static bool wanted_running(const json_t *doc)
{
        return streq(json_get_str(doc, "wanted", ""), "running");
}

static int edit_move(json_t *doc, void *arg, struct err *err)
{
        struct request *q = arg;
        int64_t asked = json_get_int(json_object_get(doc, "move"), "serial", 0);
        int64_t told = json_get_int(json_path(doc, "status.move"), "serial", 0);
        json_t *move;

        q->serial = 0;
        if (!wanted_running(doc))
                return 0;
        move = json_pack("{s:I,s:i,s:I}", "serial", (json_int_t)MAX_OF(asked, told) + 1, "to",
                         (int)q->item->target, "epoch", (json_int_t)q->epoch);
        if (!move)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "move", move);
        q->serial = MAX_OF(asked, told) + 1;
        return 1;
}

static int edit_place(json_t *doc, void *arg, struct err *err)
{
        struct request *q = arg;
        json_t *placement;

        q->serial = 0;
        if (!wanted_running(doc))
                return 0;
        placement = json_pack("{s:i,s:I}", "host", (int)q->item->target, "epoch", (json_int_t)q->epoch);
        if (!placement)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "placement", placement);
        q->serial = 1;
        return 1;
}

static const char *name_of(const struct handing *h, unsigned number)
{
        for (size_t i = 0; i < h->n_hosts; i++)
                if (h->hosts[i].number == number)
                        return h->hosts[i].name;
        return "?";
}

static void order_live(struct handing *h, size_t k)
{
        struct context *ctx = h->ctx;
        struct failover_item *item = &h->items[k];
        struct request q = {.item = item, .epoch = item->epoch};
        struct err e = {0};

        if (record_change(ctx->store, RECORD_INSTANCE, item->instance, edit_move, &q, &e) < 0) {
                log_warn("instance %s: not moved to host %u: %s", item->instance, item->target,
                         err_text(&e));
                handover_failed(&h->work, k, err_text(&e));
                return;
        }
        h->serials[k] = q.serial;
        if (!q.serial) { /* its user has stopped it: the guest's thread does that */
                handover_done(&h->work, k);
                return;
        }
        event_add(ctx, "handover", item->instance, NULL, "its host goes down: moves live to host %s",
                  name_of(h, item->target));
        guests_wake(ctx, item->instance);
}

static void order_stop(struct handing *h, size_t k, bool at_once)
{
        struct context *ctx = h->ctx;
        struct failover_item *item = &h->items[k];

        if (h->serials[k]) /* the move has taken too long */
                virt_migrate_abort(ctx->virt, item->instance, NULL);
        if (item->target)
                event_add(ctx, "handover", item->instance, NULL,
                          "its host goes down: %s here, to start on host %s",
                          at_once ? "ended" : "powers off", name_of(h, item->target));
        else
                event_add(ctx, "handover", item->instance, NULL,
                          "its host goes down: %s here, to start here again%s%s",
                          at_once ? "ended" : "powers off", item->reason[0] ? "; " : "", item->reason);
        guests_leave(ctx, item->instance, at_once);
}

/* The QEMU is gone, and nothing starts here any more: the target may claim. */
static void place(struct handing *h, size_t k, const struct lease *name)
{
        struct context *ctx = h->ctx;
        struct failover_item *item = &h->items[k];
        struct request q = {.item = item, .epoch = name->epoch};
        struct err e = {0};
        int r = record_change(ctx->store, RECORD_INSTANCE, item->instance, edit_place, &q, &e);

        if (r < 0) {
                log_warn("instance %s: not placed on host %u: %s", item->instance, item->target,
                         err_text(&e));
                return; /* once more at the next step */
        }
        if (!q.serial) {
                handover_done(&h->work, k);
                return;
        }
        h->placed_at[k] = name->epoch + 1;
        if (peer_look(ctx, item->target, item->instance, true, &e) < 0) {
                log_warn("instance %s: host %u does not start it: %s", item->instance, item->target,
                         err_text(&e));
                h->placed_at[k] = 0;
                handover_failed(&h->work, k, err_text(&e));
        }
}

static bool has_process(const struct virt_domain *list, size_t n, const char *instance)
{
        for (size_t i = 0; i < n; i++)
                if (streq(list[i].lease.instance, instance))
                        return true;
        return false;
}

/* Has the move that was asked for been told failed? */
static void look_at_move(struct handing *h, size_t k)
{
        struct instance i;
        const json_t *move;

        if (instance_load(h->ctx->store, h->items[k].instance, &i, NULL) < 0)
                return;
        move = json_path(i.doc, "status.move");
        if (i.move_serial_done >= h->serials[k] && streq(json_get_str(move, "state", ""), "failed")) {
                h->serials[k] = 0;
                handover_failed(&h->work, k, json_get_str(move, "error", "the move failed"));
        } else if (i.wanted != WANTED_RUNNING) {
                handover_done(&h->work, k);
        }
        instance_done(&i);
}

static void look(struct handing *h, size_t k, const struct virt_domain *processes, size_t n)
{
        struct failover_item *item = &h->items[k];
        enum handover_how how = h->guests[k].how;
        struct lease name;
        int r = lease_find(h->ctx->store, item->instance, &name, NULL);

        if (r == -ENOENT || (r == 0 && name.host != h->ctx->number)) {
                handover_done(&h->work, k);
                return;
        }
        if (r < 0)
                return;
        item->epoch = name.epoch;
        if (how == HANDOVER_LIVE)
                look_at_move(h, k);
        else if (how != HANDOVER_WAITS && h->serials[k]) /* a move that had not begun when it was to end */
                virt_migrate_abort(h->ctx->virt, item->instance, NULL);
        if (how == HANDOVER_LIVE || how == HANDOVER_WAITS || has_process(processes, n, item->instance) ||
            guests_busy(h->ctx, item->instance))
                return;
        else if (item->state != FAILOVER_PLACED)
                handover_done(&h->work, k);
        else if (h->placed_at[k] != name.epoch + 1)
                place(h, k, &name);
}

static void step(struct handing *h)
{
        _cleanup_(freep) struct virt_domain *processes = NULL;
        struct err e = {0};
        size_t n = 0, k;

        while (handover_next(&h->work, h->hosts, h->n_hosts, clock_ms(), &k)) {
                if (h->guests[k].how == HANDOVER_LIVE)
                        order_live(h, k);
                else
                        order_stop(h, k, h->guests[k].how == HANDOVER_END);
        }
        if (virt_processes(h->ctx->virt, &processes, &n, &e) < 0) {
                log_warn("host %s: processes not listed: %s", h->ctx->config->name, err_text(&e));
                return;
        }
        for (k = 0; k < h->work.places.n_items; k++)
                if (h->items[k].state != FAILOVER_DONE)
                        look(h, k, processes, n);
}

/* What this host owns and somebody wants to run. late: only what runs, as it may have arrived meanwhile. */
static int collect(struct handing *h, int64_t until, bool late, struct err *err)
{
        struct context *ctx = h->ctx;
        _cleanup_(json_decrefpp) json_t *own = NULL;
        size_t room, n = 0;
        int r = survey_all(ctx->store, &h->survey, err);

        if (r == 0)
                r = peer_record(ctx, ctx->number, &own, err);
        if (r < 0)
                return r;
        room = h->survey.n_instances + 1;
        h->items = calloc(room, sizeof(*h->items));
        h->guests = calloc(room, sizeof(*h->guests));
        h->serials = calloc(room, sizeof(*h->serials));
        h->placed_at = calloc(room, sizeof(*h->placed_at));
        if (!h->items || !h->guests || !h->serials || !h->placed_at ||
            survey_plan(&h->survey, &h->hosts, &h->n_hosts) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        for (size_t i = 0; i < h->survey.n_instances; i++) {
                const struct survey_instance *in = &h->survey.instances[i];

                if (in->lease.host != ctx->number || in->wanted != WANTED_RUNNING ||
                    (in->placement && in->placement != ctx->number) ||
                    (late && !guests_movable(ctx, in->id)))
                        continue;
                h->items[n] = (struct failover_item){.priority = in->priority,
                                                     .cpus = in->cpus,
                                                     .memory = in->memory,
                                                     .group = in->group,
                                                     .epoch = in->lease.epoch};
                memcpy(h->items[n++].instance, in->id, sizeof(in->id));
        }
        handover_init(&h->work, ctx->number, h->items, h->guests, n, clock_ms(), until - clock_ms());
        h->work.stay = json_get_bool(own, "maintenance", false);
        r = survey_seats(&h->survey, NULL, ctx->number, &h->seats, &h->work.places.n_seats);
        h->work.places.seats = h->seats;
        for (size_t k = 0; k < n; k++)
                h->guests[k].movable = guests_movable(ctx, h->items[k].instance);
        return r < 0 ? err_set(err, r, "out of memory") : (int)n;
}

static void handing_done(struct handing *h)
{
        survey_done(&h->survey);
        free(h->hosts);
        free(h->seats);
        free(h->items);
        free(h->guests);
        free(h->serials);
        free(h->placed_at);
}

/* Returns how many guests there were to hand on. */
static int hand_on(struct context *ctx, int64_t until, bool late)
{
        struct handing h = {.ctx = ctx};
        struct err e = {0};
        int n = collect(&h, until, late, &e);

        if (n < 0)
                log_warn("host %s: goes down, and its guests cannot be handed on: %s", ctx->config->name,
                         err_text(&e));
        if (n > 0)
                event_add(ctx, "host-leaving", NULL, NULL,
                          "host %s goes down: hands %d guests on, within %lld s", ctx->config->name, n,
                          (long long)((until - clock_ms()) / 1000));
        while (n > 0 && !handover_ended(&h.work) && clock_ms() < until) {
                sd_notify(0, "EXTEND_TIMEOUT_USEC=" EXTEND_US "\nWATCHDOG=1");
                step(&h);
                poll(NULL, 0, STEP_MS);
        }
        if (n > 0)
                log_info("host %s: %s", ctx->config->name,
                         handover_ended(&h.work) ? "its guests are handed on"
                                                 : "time is over, not all of its guests are handed on");
        handing_done(&h);
        return n;
}

void handover_run(struct context *ctx)
{
        int64_t until = clock_ms() + ctx->config->handover_ms;

        if (ctx->config->handover_ms == 0 || ctx->self->replaced) /* then the number is not this host's */
                return;
        ctx->self->leaving = true;
        if (hand_on(ctx, until, false) < 0)
                return;
        /* Moves that this host admitted before go on, and it needs hostd to commit them. */
        while (clock_ms() < until && (hand_on(ctx, until, true) > 0 || guests_arriving(ctx))) {
                sd_notify(0, "EXTEND_TIMEOUT_USEC=" EXTEND_US "\nWATCHDOG=1");
                poll(NULL, 0, STEP_MS);
        }
}
