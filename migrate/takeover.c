/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/takeover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"

static bool state_is(const json_t *doc, enum host_state state)
{
        return streq(json_get_str(doc, "state", ""), host_state_name(state));
}

enum takeover_act takeover_look(const struct takeover_look *l)
{
        if (!l->fence_holds || !watch_dead(l->watch, l->own_write_ms, l->disarmed_ms, l->now_ms))
                return TAKEOVER_WATCH;
        return l->maintenance || watch_waits(l->watch, l->number, l->home, l->now_ms) ? TAKEOVER_LET_BE
                                                                                      : TAKEOVER_TAKE;
}

int takeover_edit_host(json_t *doc, struct takeover_claim *c, struct err *err)
{
        int64_t disarmed = state_is(doc, HOST_STOPPED) ? json_get_int(doc, "disarmed_ms", 0) : 0;
        json_t *taken;

        c->won = false;
        c->epoch = (uint64_t)json_get_int(doc, "epoch", 0);
        if (c->epoch != c->watch->epoch || state_is(doc, HOST_DEAD) ||
            json_get_bool(doc, "maintenance", false) ||
            !watch_dead(c->watch, c->own_write_ms, disarmed, c->now_ms))
                return 0;
        taken = json_pack("{s:i,s:I,s:b,s:I,s:s,s:s}", "by", (int)c->me, "epoch", (json_int_t)c->my_epoch,
                          "done", 0, "last_beat_ms", (json_int_t)c->detect_ms, "last_beat", c->last_beat,
                          "at", c->now_text);
        if (!taken)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "taken", taken);
        json_object_set_new(doc, "state", json_string(host_state_name(HOST_DEAD)));
        json_object_set_new(doc, "epoch", json_integer((json_int_t)c->epoch + 1));
        c->won = true;
        return 1;
}

int takeover_edit_done(json_t *doc, uint64_t epoch)
{
        json_t *taken = json_object_get(doc, "taken");

        if (!state_is(doc, HOST_DEAD) || json_get_bool(taken, "done", true) ||
            (uint64_t)json_get_int(doc, "epoch", 0) != epoch)
                return 0;
        json_object_set_new(taken, "done", json_true());
        return 1;
}

bool takeover_mine(const struct ring_host *hosts, size_t n_hosts, const struct ring_host *dead, unsigned me)
{
        return dead->state == HOST_DEAD && ring_heir(hosts, n_hosts, dead->taken_by) == me;
}

/* To be started; or to be claimed, so that somebody can say that it stands. */
static bool due(const struct takeover_instance *in)
{
        return in->wanted == WANTED_RUNNING || (in->wanted == WANTED_STOPPED && !in->told_off);
}

bool takeover_stranded(const struct takeover_instance *in, unsigned dead)
{
        return due(in) && (in->placement ? in->placement : in->owner) == dead;
}

enum takeover_share takeover_share(const struct takeover_instance *in, unsigned dead)
{
        if (takeover_stranded(in, dead))
                return TAKEOVER_PLACE;
        /* It lies on the dead host, and another was named: by whoever began this work, or by a user. */
        if (!due(in) || in->owner != dead)
                return TAKEOVER_NONE;
        return in->placement_up ? TAKEOVER_AWAIT : TAKEOVER_PLACE;
}

int takeover_edit_place(json_t *doc, const struct takeover_placing *p, struct err *err)
{
        const struct failover_item *item = p->item;
        json_t *placement, *tried = json_array();

        for (unsigned i = 0; i < item->tries; i++)
                json_array_append_new(tried, json_integer(item->refused[i]));
        placement = json_pack("{s:i,s:I,s:{s:i,s:i,s:s,s:I,s:I,s:I,s:i,s:o}}", "host", (int)item->target,
                              "epoch", (json_int_t)item->epoch, "failover", "from", (int)p->dead, "by",
                              (int)p->me, "last_beat", p->last_beat, "last_beat_ms",
                              (json_int_t)p->detect_ms, "detect_ms", (json_int_t)p->detect_ms, "plan_ms",
                              (json_int_t)p->plan_ms, "tries", 0, "tried", tried);
        if (!placement)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "placement", placement);
        return 1;
}

int takeover_edit_failed(json_t *doc, const struct takeover_placing *p)
{
        json_t *status = json_object_get(doc, "status");
        char text[320];

        if (!json_is_object(status) || (unsigned)json_get_int(status, "host", 0) != p->dead ||
            (uint64_t)json_get_int(status, "epoch", 0) > p->item->epoch)
                return 0;
        snprintf(text, sizeof(text),
                 "not restarted yet after the loss of host %u, tried again every %d s: %s", p->dead,
                 TAKEOVER_AGAIN_MS / 1000, p->item->reason);
        json_object_set_new(status, "state", json_string("failed"));
        json_object_set_new(status, "error", json_string(text));
        json_object_del(status, "tries"); /* what the dead host had in mind */
        json_object_del(status, "next");
        return 1;
}
