/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/events.h"
#include "hostd/guests/guest.h"
#include "hostd/peers.h"
#include "hostd/survey.h"
#include "migrate/failover.h"

/*
 * A failover's target from its own side. The winner of the dead host's record names it and watches its
 * claim; from the claim on the target is the owner, and where its start fails it hands the instance on
 * itself: by a placement at the epoch that it has just won. So nothing depends on the winner living on.
 */

const json_t *guest_failover(const struct guest_look *l)
{
        const struct instance *i = &l->instance;
        bool fresh = i->placement_epoch == l->lease.epoch;
        /* This host has claimed by it, maybe more than once, and nothing has run since. */
        bool unfinished = l->lease.host && l->lease.host == i->placement_host &&
                          i->placement_epoch < l->lease.epoch && i->start_epoch <= i->placement_epoch;

        return fresh || unfinished ? json_path(i->doc, "placement.failover") : NULL;
}

static void chain_read(const json_t *failover, struct failover_chain *ret)
{
        const json_t *tried = json_object_get(failover, "tried");

        *ret = (struct failover_chain){.tries = (unsigned)json_get_int(failover, "tries", 0)};
        for (size_t i = 0; i < FAILOVER_TRIES; i++)
                ret->tried[i] = (unsigned)json_integer_value(json_array_get(tried, i));
}

struct handing {
        uint64_t placed; /* epoch of the placement that this start had */
        const struct lease *mine;
        unsigned to;
        struct failover_chain chain;
        const char *error; /* for the status, or NULL: what the start wrote stays */
        bool done;
};

static int edit_hand_on(json_t *doc, void *arg, struct err *err)
{
        struct handing *h = arg;
        json_t *placement = json_object_get(doc, "placement"), *failover, *tried;

        h->done = false;
        failover = json_object_get(placement, "failover");
        if (!failover || (uint64_t)json_get_int(placement, "epoch", 0) != h->placed)
                return 0; /* somebody has other plans for it */
        tried = json_array();
        for (size_t i = 0; i < FAILOVER_TRIES && h->chain.tried[i]; i++)
                json_array_append_new(tried, json_integer(h->chain.tried[i]));
        if (!tried)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(failover, "tried", tried);
        json_object_set_new(failover, "tries", json_integer(h->chain.tries));
        json_object_set_new(placement, "host", json_integer(h->to));
        json_object_set_new(placement, "epoch", json_integer((json_int_t)h->mine->epoch));
        if (h->error)
                json_object_set_new(json_object_get(doc, "status"), "error", json_string(h->error));
        h->done = true;
        return 1;
}

/* The next host, by the same rules as the first. */
static int hand_on_where(struct guest *g, const struct instance *i, struct failover_chain *chain,
                         unsigned *ret, struct err *why)
{
        _cleanup_(freep) struct planner_host *hosts = NULL;
        _cleanup_(freep) struct failover_seat *seats = NULL;
        struct failover_item item = {.cpus = i->cpus, .memory = i->memory, .group = i->group};
        struct failover f;
        struct survey s;
        size_t n = 0, n_seats = 0;
        int r;

        r = survey_all(g->ctx->store, &s, why);
        if (r < 0)
                return r;
        r = survey_plan(&s, &hosts, &n);
        if (r == 0)
                r = survey_seats(&s, g->id, 0, &seats, &n_seats);
        if (r == 0) {
                failover_init(&f, 0, &item, 1);
                f.seats = seats;
                f.n_seats = n_seats;
                *ret = failover_hand_on(&f, chain, g->ctx->number, hosts, n, why);
        }
        survey_done(&s);
        return r;
}

static void hand_on_tell(struct guest *g, const struct instance *i, const struct handing *h,
                         const struct err *why)
{
        unsigned from = (unsigned)json_get_int(json_path(i->doc, "placement.failover"), "from", 0);

        if (h->chain.tries == FAILOVER_TRIES)
                event_add(
                    g->ctx, "failover-failed", g->id, i->name,
                    "not restarted yet after the loss of host %u: %u starts failed, the last one here: %s; "
                    "trying on, with pauses",
                    from, h->chain.tries, err_text(why));
        else if (h->to != g->ctx->number)
                event_add(g->ctx, "failover-retry", g->id, i->name, "host %u tries it next", h->to);
}

void guest_hand_on(struct guest *g, const struct guest_look *l, const struct lease *mine,
                   const struct err *why)
{
        const struct instance *i = &l->instance;
        struct handing h = {.placed = i->placement_epoch, .mine = mine, .to = g->ctx->number};
        struct err e = {0}, none = {0};
        char text[640];
        int r;

        chain_read(guest_failover(l), &h.chain);
        r = hand_on_where(g, i, &h.chain, &h.to, &none);
        if (none.code < 0) {
                snprintf(text, sizeof(text), "%.320s; nowhere else: %.290s", err_text(why), err_text(&none));
                h.error = text;
        }
        r = r < 0 ? r : record_change(g->ctx->store, RECORD_INSTANCE, g->id, edit_hand_on, &h, &e);
        if (r < 0) {
                log_warn("instance %s: not handed on, tried again here: %s", g->id,
                         err_text(e.code ? &e : &none));
                return;
        }
        if (!h.done)
                return;
        hand_on_tell(g, i, &h, why);
        if (h.to != g->ctx->number && peer_look(g->ctx, h.to, g->id, true, &e) < 0)
                log_warn("instance %s: handed on to host %u, which does not answer: %s", g->id, h.to,
                         err_text(&e));
}

void guest_failover_pause(struct guest *g, const struct guest_look *l)
{
        const json_t *failover = guest_failover(l);
        int64_t until;

        if (!failover || g->paused_epoch == l->lease.epoch + 1)
                return;
        g->paused_epoch = l->lease.epoch + 1; /* 0 stays "none" */
        until = clock_ms() + failover_pause_ms((unsigned)json_get_int(failover, "tries", 0));
        if (l->instance.placement_host == g->ctx->number && until > g->retry_ms)
                g->retry_ms = until;
}
