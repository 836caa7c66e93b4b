/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/identity.h"

#include <string.h>

static bool equal(const char *a, const char *b)
{
        return a && b && strcmp(a, b) == 0;
}

bool identity_same(const struct machine *a, const struct machine *b)
{
        return a->boot[0] && a->view[0] && equal(a->boot, b->boot) && equal(a->view, b->view) &&
               equal(a->board, b->board);
}

const char *identity_action_name(enum identity_action a)
{
        static const char *const names[IDENTITY_ACTION_MAX] = {
            [IDENTITY_BEAT] = "beat",
            [IDENTITY_JOIN] = "join",
            [IDENTITY_WAIT] = "wait",
            [IDENTITY_REFUSE_NAME] = "refuse-name",
            [IDENTITY_REFUSE_ALIVE] = "refuse-alive",
        };

        return (unsigned)a < IDENTITY_ACTION_MAX ? names[a] : "?";
}

enum identity_action identity_decide(const struct identity_view *v)
{
        if (!equal(v->name, v->record_name))
                return IDENTITY_REFUSE_NAME;
        if (!v->joined)
                return IDENTITY_JOIN; /* of two at once one wins by compare-and-swap */
        if (identity_same(v->me, &v->machine))
                return IDENTITY_BEAT;
        if (v->alive)
                return IDENTITY_REFUSE_ALIVE;
        return v->still_ms >= IDENTITY_WATCH_MS ? IDENTITY_JOIN : IDENTITY_WAIT;
}

const char *identity_verdict_name(enum identity_verdict v)
{
        static const char *const names[IDENTITY_VERDICT_MAX] = {
            [IDENTITY_MINE] = "mine",
            [IDENTITY_TAKEN] = "taken",
            [IDENTITY_SUPERSEDED] = "superseded",
            [IDENTITY_REPLACED] = "replaced",
        };

        return (unsigned)v < IDENTITY_VERDICT_MAX ? names[v] : "?";
}

enum identity_verdict identity_check(const struct machine *me, const char *nonce, uint64_t epoch,
                                     const struct machine *machine, const char *record_nonce,
                                     uint64_t record_epoch)
{
        if (!equal(nonce, record_nonce))
                return identity_same(me, machine) ? IDENTITY_SUPERSEDED : IDENTITY_REPLACED;
        return epoch == record_epoch ? IDENTITY_MINE : IDENTITY_TAKEN;
}
