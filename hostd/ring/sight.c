/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "hostd/events.h"
#include "hostd/peers.h"
#include "hostd/record.h"
#include "hostd/ring/internal.h"
#include "hostd/self.h"

/*
 * Tells when this host cannot watch: events, and "blind" in its host record, {"host","since"} for each
 * neighbour, host 0 for the list of hosts. The threads that watch may be stuck in a call, so another one has
 * to tell.
 */
#define TICK_MS 500
#define LIST_OLD_MS 5000 /* a listing every 2 s that takes up to 3 s is well */

struct teller {
        struct context *ctx;
        struct sight list;
        uint64_t recorded; /* which of them the record says: see blind_set() */
        bool open;         /* a write had no answer: the record may say that, or will */
};

struct told {
        unsigned number;
        char name[65];
        enum sight_change change;
        bool own; /* our own heartbeats are the cause */
};

static int edit_blind(json_t *doc, void *arg, struct err *err)
{
        const struct teller *t = arg;
        struct ring *r = t->ctx->ring;
        json_t *list = json_array();
        int64_t now = clock_ms();
        char since[CLOCK_STAMP_LEN + 1];

        if (!list)
                return err_set(err, -ENOMEM, "out of memory");
        if (!streq(json_get_str(doc, "nonce", ""), t->ctx->nonce)) {
                json_decref(list);
                return 0;
        }
        if (t->list.blind)
                json_array_append_new(list, json_pack("{s:i,s:s}", "host", 0, "since",
                                                      clock_stamp_ago(now - t->list.able_ms, since)));
        pthread_mutex_lock(&r->lock);
        for (const struct neighbour *n = r->neighbours; n; n = n->next)
                if (n->wanted && n->sight.blind)
                        json_array_append_new(list,
                                              json_pack("{s:i,s:s}", "host", (int)n->number, "since",
                                                        clock_stamp_ago(now - n->sight.able_ms, since)));
        pthread_mutex_unlock(&r->lock);
        if (json_array_size(list) > 0) {
                json_object_set_new(doc, "blind", list);
        } else {
                json_decref(list);
                json_object_del(doc, "blind");
        }
        return 1;
}

static void tell(struct context *ctx, const struct told *t)
{
        const char *self = ctx->config->name;

        if (t->change == SIGHT_BACK && t->number)
                event_add(ctx, "host-sees", NULL, NULL, "host %s watches host %s again", self, t->name);
        else if (t->change == SIGHT_BACK)
                event_add(ctx, "host-sees", NULL, NULL, "host %s lists the hosts again", self);
        else if (t->number)
                event_add(ctx, "host-blind", NULL, NULL,
                          "host %s cannot tell whether host %s lives, for %d s now: %s. If it dies, this "
                          "host does not see it",
                          self, t->name, WATCH_BLIND_MS / 1000,
                          t->own ? "its own heartbeats do not reach the storage in time"
                                 : "that host's heartbeat cannot be read in time");
        else
                event_add(ctx, "host-blind", NULL, NULL,
                          "host %s cannot list the hosts: it watches those it knew %d s ago", self,
                          (WATCH_BLIND_MS + LIST_OLD_MS) / 1000);
}

/* Another number for another set of what cannot be seen; 0 for none. */
static uint64_t blind_set(struct teller *t)
{
        struct ring *r = t->ctx->ring;
        uint64_t set = t->list.blind;

        pthread_mutex_lock(&r->lock);
        for (const struct neighbour *n = r->neighbours; n; n = n->next)
                if (n->wanted && n->sight.blind)
                        set = set * 65537 + n->number + 1;
        pthread_mutex_unlock(&r->lock);
        return set;
}

static size_t look(struct teller *t, struct told ret[WATCH_NEIGHBOURS + 1])
{
        struct context *ctx = t->ctx;
        int64_t now = clock_ms(), own = ctx->self->own_write_ms;
        struct ring *r = ctx->ring;
        enum sight_change change;
        size_t n_told = 0;

        pthread_mutex_lock(&r->lock);
        for (struct neighbour *n = r->neighbours; n; n = n->next) {
                if (!n->wanted || n_told >= WATCH_NEIGHBOURS)
                        continue;
                change = sight_look(&n->sight, watch_able(&n->watch, own, now), now);
                if (change == SIGHT_SAME)
                        continue;
                ret[n_told] =
                    (struct told){.number = n->number, .change = change, .own = now - own > WATCH_OWN_MS};
                memcpy(ret[n_told++].name, n->host.name, sizeof(ret->name));
        }
        change = sight_look(&t->list, r->listed_ms && now - r->listed_ms <= LIST_OLD_MS, now);
        pthread_mutex_unlock(&r->lock);
        if (change != SIGHT_SAME)
                ret[n_told++] = (struct told){.change = change};
        return n_told;
}

void sight_main(void *arg)
{
        struct teller t = {.ctx = arg, .list = {.able_ms = clock_ms()}};
        struct context *ctx = t.ctx;
        char id[PEER_ID_LEN];

        peer_id(ctx->number, id);
        while (self_works(ctx)) {
                struct told told[WATCH_NEIGHBOURS + 1];
                size_t n = look(&t, told);
                uint64_t set = blind_set(&t);
                struct err e = {0};

                for (size_t i = 0; i < n; i++)
                        tell(ctx, &told[i]);
                if (set != t.recorded || t.open)
                        t.open = record_change(ctx->store, RECORD_HOST, id, edit_blind, &t, &e) < 0;
                if (t.open)
                        log_debug("what this host cannot see is not recorded yet: %s", err_text(&e));
                else
                        t.recorded = set;
                poll(NULL, 0, TICK_MS);
        }
}
