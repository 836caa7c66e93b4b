/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/events.h"
#include "hostd/guests/guest.h"
#include "hostd/peers.h"
#include "hostd/self.h"
#include "hostd/survey.h"
#include "migrate/failover.h"
#include "migrate/isolation.h"

/*
 * The uplink of this host's bridge is dead, and its storage works: its guests go to a host whose network
 * works. Alive, if that host can be reached; else the guest is stopped here and placed there.
 */

#define REACH_MS 1000

/* 0: no other host fits. */
static unsigned uplink_target(struct guest *g, const struct instance *i, struct err *why)
{
        _cleanup_(freep) struct planner_host *hosts = NULL;
        _cleanup_(freep) struct failover_seat *seats = NULL;
        _cleanup_(freep) unsigned *avoid = NULL;
        struct planner_need need = {.cpus = i->cpus, .memory = i->memory, .not_on = g->ctx->number};
        struct survey s;
        size_t n = 0, n_seats = 0;
        unsigned found = 0;
        int best = -1;

        if (survey_all(g->ctx->store, &s, why) < 0)
                return 0;
        if (survey_plan(&s, &hosts, &n) == 0 && survey_seats(&s, g->id, 0, &seats, &n_seats) == 0)
                avoid = calloc(n_seats + 1, sizeof(*avoid));
        need.avoid = avoid;
        for (size_t k = 0; avoid && k < n_seats; k++)
                if (i->group[0] && streq(seats[k].group, i->group))
                        avoid[need.n_avoid++] = seats[k].host;
        if (avoid)
                best = planner_pick(hosts, n, &need, why);
        if (best >= 0)
                found = hosts[best].number;
        survey_done(&s);
        return found;
}

static bool reaches(struct context *ctx, unsigned number)
{
        _cleanup_(json_decrefpp) json_t *host = NULL;
        struct http_client *c = NULL;
        int r = peer_record(ctx, number, &host, NULL);

        if (r == 0)
                r = http_client_new(json_get_str(host, "api", ""), NULL, REACH_MS, &c, NULL);
        if (r == 0)
                r = http_call(c, "GET", "/healthz", NULL, NULL, NULL, NULL);
        http_client_free(c);
        return r == 0;
}

struct leaving {
        unsigned to;
        uint64_t epoch;
};

/* As imaged writes a user's request, unless the user has one. */
static int edit_move_on(json_t *doc, void *arg, struct err *err)
{
        const struct leaving *l = arg;
        int64_t asked = json_get_int(json_object_get(doc, "move"), "serial", 0);
        int64_t done = json_get_int(json_path(doc, "status.move"), "serial", 0);
        json_t *move;

        if (asked > done)
                return 0;
        move = json_pack("{s:I,s:i,s:I}", "serial", (json_int_t)(MAX_OF(asked, done) + 1), "to", (int)l->to,
                         "epoch", (json_int_t)l->epoch);
        if (!move)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "move", move);
        return 1;
}

static int edit_place(json_t *doc, void *arg, struct err *err)
{
        const struct leaving *l = arg;
        json_t *placement = json_pack("{s:i,s:I}", "host", (int)l->to, "epoch", (json_int_t)l->epoch);

        if (!placement)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "placement", placement);
        return 1;
}

static int uplink_restart(struct guest *g, const struct guest_look *l, struct leaving *to, struct err *err)
{
        struct err ignored = {0};
        int r = guest_stop(g, l, err);

        if (r == 0 && g->ended_epoch != l->lease.epoch + 1)
                return 0; /* hostd ends, a disk error stops it, or the disk has moved on: it was not ended here */
        if (r == 0)
                r = record_change(g->ctx->store, RECORD_INSTANCE, g->id, edit_place, to, err);
        if (r == 0)
                peer_look(g->ctx, to->to, g->id, true, &ignored); /* else its next scan sees it */
        return r;
}

bool guest_uplink(struct guest *g, const struct guest_look *l)
{
        struct context *ctx = g->ctx;
        struct leaving to = {.epoch = l->lease.epoch};
        struct err e = {0};
        enum uplink_way way;
        int r;

        if (ctx->self->leaving || /* it hands them on anyway */
            !uplink_leaves(&l->view, (enum uplink)ctx->self->uplink))
                return false;
        to.to = uplink_target(g, &l->instance, &e);
        if (!to.to) {
                log_warn("instance %s: the uplink of bridge %s is dead, and it stays here: %s", g->id,
                         ctx->config->bridge, err_text(&e));
                return false;
        }
        way = uplink_way(reaches(ctx, to.to), g->uplink_epoch == to.epoch + 1);
        event_add(ctx, "uplink-dead", g->id, l->instance.name,
                  way == UPLINK_LIVE ? "moves to host %u: the network of its host is dead"
                                     : "stops here and starts on host %u: the network of its host is dead",
                  to.to);
        g->uplink_epoch = to.epoch + 1;
        r = way == UPLINK_LIVE ? record_change(ctx->store, RECORD_INSTANCE, g->id, edit_move_on, &to, &e)
                               : uplink_restart(g, l, &to, &e);
        if (r < 0)
                log_warn("instance %s: not handed on to host %u: %s", g->id, to.to, err_text(&e));
        return r >= 0;
}
