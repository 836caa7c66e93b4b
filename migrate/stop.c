/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/stop.h"

static bool user_wants(const struct stop_view *v)
{
        return v->wanted != WANTED_RUNNING || v->restart;
}

bool stop_forced(const struct stop_view *v)
{
        return v->at_once || v->wanted == WANTED_DELETED || (user_wants(v) && v->force);
}

bool stop_withdrawn(const struct stop_view *decided, const struct stop_view *now)
{
        return user_wants(decided) && !user_wants(now) && !now->leave;
}

enum stop_step stop_step(const struct stop_view *v)
{
        /* On its way it may run again in a moment, or it is just powering off. */
        bool stands = !v->running && v->pause != PAUSE_PASSING;

        if (!v->here)
                return STOP_ENDED;
        if (v->lost)
                return STOP_LOST;
        if (stands && !user_wants(v) && !v->leave)
                return STOP_GIVE_UP;
        if (stands || stop_forced(v) || v->now_ms - v->begun_ms >= STOP_PATIENCE_MS)
                return STOP_FORCE;
        return !v->asked_ms || v->now_ms - v->asked_ms >= STOP_ASK_MS ? STOP_ASK : STOP_WAIT;
}
