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
 * A start that failed here, or a placement that nobody has taken, goes on to another host: by a placement at
 * the epoch that the name has. Of a failover the winner of the dead host's record watches the first claim
 * only; from the claim on the target is the owner. So nothing depends on the winner living on.
 */

static bool is_open(const struct guest_look *l)
{
        const struct instance *i = &l->instance;

        return placement_open(i->placement_host, i->placement_epoch, l->lease.host, l->lease.epoch,
                              i->start_epoch);
}

const json_t *guest_failover(const struct guest_look *l)
{
        return is_open(l) ? json_path(l->instance.doc, "placement.failover") : NULL;
}

const json_t *guest_chain(const struct guest_look *l)
{
        const json_t *failover = guest_failover(l);

        if (failover)
                return failover;
        return is_open(l) ? json_path(l->instance.doc, "placement.chain") : NULL;
}

bool guest_fixed(const struct guest_look *l)
{
        return is_open(l) && json_get_bool(json_object_get(l->instance.doc, "placement"), "fixed", false);
}

int64_t guest_chain_pause_ms(const struct guest_look *l)
{
        return failover_pause_ms((unsigned)json_get_int(guest_chain(l), "tries", 0));
}

static void chain_read(const json_t *from, struct failover_chain *ret)
{
        const json_t *tried = json_object_get(from, "tried");

        *ret = (struct failover_chain){.tries = (unsigned)json_get_int(from, "tries", 0)};
        for (size_t i = 0; i < FAILOVER_TRIES; i++)
                ret->tried[i] = (unsigned)json_integer_value(json_array_get(tried, i));
}

struct handing {
        unsigned placed_host; /* the placement as it was seen */
        uint64_t placed_epoch;
        bool failover;
        const struct lease *at; /* the name */
        unsigned to;
        struct failover_chain chain;
        const char *error;              /* nobody else can: for the status; NULL: somebody can */
        char next[CLOCK_STAMP_LEN + 1]; /* when it is tried next, for people */
        bool done;
};

static int edit_hand_on(json_t *doc, void *arg, struct err *err)
{
        struct handing *h = arg;
        json_t *placement = json_object_get(doc, "placement"), *failover, *tried = json_array(), *fresh;
        json_t *status = json_object_get(doc, "status");

        h->done = false;
        if (!tried)
                return err_set(err, -ENOMEM, "out of memory");
        failover = h->failover ? json_object_get(placement, "failover") : NULL;
        if (strcmp(json_get_str(doc, "wanted", ""), "running") != 0 || (h->failover && !failover) ||
            (unsigned)json_get_int(placement, "host", 0) != h->placed_host ||
            (uint64_t)json_get_int(placement, "epoch", 0) != h->placed_epoch) {
                json_decref(tried);
                return 0; /* somebody has other plans for it */
        }
        for (size_t i = 0; i < FAILOVER_TRIES && h->chain.tried[i]; i++)
                json_array_append_new(tried, json_integer(h->chain.tried[i]));
        fresh = json_pack("{s:i,s:I}", "host", (int)h->to, "epoch", (json_int_t)h->at->epoch);
        if (failover) {
                json_object_set(fresh, "failover", failover);
                json_object_set_new(failover, "tried", tried);
                json_object_set_new(failover, "tries", json_integer(h->chain.tries));
        } else {
                json_object_set_new(fresh, "chain",
                                    json_pack("{s:i,s:o}", "tries", (int)h->chain.tries, "tried", tried));
        }
        if (json_object_set_new(doc, "placement", fresh) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        if (h->error) {
                json_object_set_new(status, "state", json_string("failed"));
                json_object_set_new(status, "error", json_string(h->error));
        }
        json_object_set_new(status, "tries", json_integer(h->chain.tries));
        json_object_set_new(status, "next", json_string(h->next));
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

        if (h->failover && h->chain.tries == FAILOVER_TRIES)
                event_add(
                    g->ctx, "failover-failed", g->id, i->name,
                    "not restarted yet after the loss of host %u: %u starts failed, the last one here: %s; "
                    "trying on, with pauses",
                    from, h->chain.tries, err_text(why));
        else if (h->to != g->ctx->number)
                event_add(g->ctx, h->failover ? "failover-retry" : "start-handed-on", g->id, i->name,
                          "host %u tries it next: %s", h->to, err_text(why));
}

void guest_hand_on(struct guest *g, const struct guest_look *l, const struct lease *at,
                   const struct err *why)
{
        const struct instance *i = &l->instance;
        struct handing h = {.placed_host = i->placement_host,
                            .placed_epoch = i->placement_epoch,
                            .failover = guest_failover(l) != NULL,
                            .at = at,
                            .to = g->ctx->number};
        struct err e = {0}, none = {0};
        char text[640];
        int64_t pause;
        int r;

        chain_read(guest_chain(l), &h.chain);
        /* One that has not taken it is tried, too. */
        if (l->view.placed_ms)
                failover_tried(&h.chain, i->placement_host);
        r = hand_on_where(g, i, &h.chain, &h.to, &none);
        if (none.code < 0) {
                snprintf(text, sizeof(text), "%.320s; nowhere else: %.290s", err_text(why), err_text(&none));
                h.error = text;
        }
        pause = failover_pause_ms(h.chain.tries);
        if (h.to == g->ctx->number)
                pause = MAX_OF(pause, g->backoff.retry_ms - clock_ms());
        clock_stamp_ago(-pause, h.next);
        r = r < 0 ? r : record_change(g->ctx->store, RECORD_INSTANCE, g->id, edit_hand_on, &h, &e);
        if (r < 0) {
                log_warn("instance %s: not handed on, tried again here: %s", g->id,
                         err_text(e.code ? &e : &none));
                return;
        }
        if (!h.done)
                return;
        backoff_handed_on(&g->backoff);
        hand_on_tell(g, i, &h, why);
        if (h.to != g->ctx->number && peer_look(g->ctx, h.to, g->id, true, &e) < 0)
                log_warn("instance %s: handed on to host %u, which does not answer: %s", g->id, h.to,
                         err_text(&e));
}

/* Why this host does not start it: see instance_decide(). */
void guest_give_up(struct guest *g, const struct guest_look *l)
{
        const struct instance_view *v = &l->view;
        struct err why = {0};

        if (v->placed_ms)
                err_set(&why, -ETIMEDOUT, "host %u has not taken it", l->instance.placement_host);
        else if (v->no_libvirt_ms)
                err_set(&why, -ENOTCONN, "host %s: its libvirt does not answer", g->ctx->config->name);
        else
                err_set(&why, -EIO, "host %s: %u starts failed: %s", g->ctx->config->name, v->failed_starts,
                        g->complaint);
        log_info("instance %s: handed on: %s", g->id, err_text(&why));
        guest_hand_on(g, l, &l->lease, &why);
}

void guest_failover_pause(struct guest *g, const struct guest_look *l)
{
        if (!guest_chain(l) || g->paused_epoch == l->lease.epoch + 1)
                return;
        g->paused_epoch = l->lease.epoch + 1; /* 0 stays "none" */
        if (l->instance.placement_host == g->ctx->number)
                backoff_pause(&g->backoff, guest_chain_pause_ms(l), clock_ms());
}
