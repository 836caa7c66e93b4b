/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/instance.h"

#include <stddef.h>

const char *instance_action_name(enum instance_action a)
{
        static const char *const names[ACTION_MAX] = {
            [ACTION_NONE] = "none",         [ACTION_FORGET] = "forget",   [ACTION_KILL] = "kill",
            [ACTION_NOTE_OFF] = "note-off", [ACTION_START] = "start",     [ACTION_STOP] = "stop",
            [ACTION_RESTART] = "restart",   [ACTION_MIGRATE] = "migrate", [ACTION_RESUME] = "resume",
            [ACTION_RECLAIM] = "reclaim",   [ACTION_REMOVE] = "remove",   [ACTION_CLAIM] = "claim",
            [ACTION_SETTLE] = "settle",     [ACTION_HAND_ON] = "hand-on",
        };

        return (unsigned)a < ACTION_MAX ? names[a] : "?";
}

/* A placement counts only at the epoch it was made at. */
static unsigned placed_on(const struct instance_view *v)
{
        return v->placement_epoch == v->epoch ? v->placement_host : 0;
}

bool instance_waits_for_libvirt(const struct instance_view *v)
{
        bool here = placed_on(v) ? placed_on(v) == v->me : v->host == v->me;

        return v->record && here && v->qemu == QEMU_NONE && v->wanted == WANTED_RUNNING && v->fixed &&
               v->trusted && !v->leaving && v->no_libvirt_ms &&
               v->now_ms - v->no_libvirt_ms >= LIBVIRT_PATIENCE_MS;
}

/* It should run, from here or from elsewhere. */
static enum instance_action start(const struct instance_view *v)
{
        if (!v->trusted || v->leaving || v->now_ms < v->retry_ms)
                return ACTION_NONE;
        if (instance_waits_for_libvirt(v) && !v->settled)
                return ACTION_SETTLE;
        if (v->no_libvirt_ms)
                return !v->fixed && v->now_ms - v->no_libvirt_ms >= LIBVIRT_PATIENCE_MS ? ACTION_HAND_ON
                                                                                        : ACTION_NONE;
        return v->failed_starts >= STARTS_HERE && !v->fixed ? ACTION_HAND_ON : ACTION_START;
}

/* The source of a migration was to run on, its hostd had won the claim for it, and died before the record
 * said so: its QEMU is still the one that ran last. Only where the name is mine. */
static bool half_reclaimed(unsigned me, uint64_t epoch, uint64_t qemu_epoch, unsigned entry_source,
                           uint64_t entry_epoch)
{
        return entry_source == me && qemu_epoch != 0 && entry_epoch == qemu_epoch && epoch == qemu_epoch + 1;
}

/* A QEMU runs here and owns the name. */
static enum instance_action decide_running(const struct instance_view *v)
{
        if (v->qemu_refused)
                return ACTION_KILL;
        if (v->wanted == WANTED_DELETED)
                return ACTION_KILL;
        /* An entry with me as the source and no migration in flight: the destination might still commit, also
         * while this one powers off. */
        if (v->qemu_epoch != v->epoch || (v->entry_epoch == v->epoch && v->entry_source == v->me))
                return ACTION_RECLAIM;
        if (v->wanted == WANTED_STOPPED || v->leave)
                return ACTION_STOP;
        if (v->qemu == QEMU_PAUSED && v->qemu_go_on && v->trusted)
                return ACTION_RESUME;
        if (v->pause == PAUSE_PASSING)
                return ACTION_NONE;
        if (v->restart)
                return ACTION_RESTART;
        if (v->move_to && v->move_epoch == v->epoch && v->move_to != v->me)
                return ACTION_MIGRATE;
        return v->settled ? ACTION_NONE : ACTION_SETTLE;
}

/* The name is mine, and no QEMU is here. */
static enum instance_action decide_absent(const struct instance_view *v)
{
        unsigned placed = placed_on(v);
        enum instance_action action;

        if (v->wanted == WANTED_DELETED)
                return ACTION_REMOVE;
        if (v->guest_powered_off && v->wanted == WANTED_RUNNING && !v->restart)
                return ACTION_NOTE_OFF;
        if (v->wanted == WANTED_STOPPED)
                return v->settled ? ACTION_FORGET : ACTION_SETTLE;
        if (placed && placed != v->me && v->leaving)
                return ACTION_FORGET;
        /* Until that one has claimed it, nobody else looks after it. */
        if (placed && placed != v->me)
                return v->trusted && v->now_ms >= v->retry_ms && v->placed_ms &&
                               v->now_ms - v->placed_ms >= v->placed_pause_ms + PLACEMENT_PATIENCE_MS
                           ? ACTION_HAND_ON
                           : ACTION_NONE;
        action = start(v);
        return action == ACTION_NONE && v->crashed && !v->settled ? ACTION_SETTLE : action;
}

/*
 * The other machine ends no QEMU here. One stays as long as the name is where the record let it run, or let
 * it arrive: then the other machine has not claimed it yet, and nobody else writes. On a directory its lock
 * keeps every later start out, so it has to go as soon as the name moves on.
 */
static enum instance_action decide_replaced(const struct instance_view *v)
{
        bool in_place =
            v->qemu_epoch == v->epoch || (v->qemu_of_entry && v->entry_epoch == v->epoch && v->epoch > 0);

        if (v->qemu == QEMU_NONE)
                return ACTION_FORGET;
        return v->record && v->wanted == WANTED_RUNNING && in_place ? ACTION_NONE : ACTION_KILL;
}

enum instance_action instance_decide(const struct instance_view *v)
{
        bool mine = v->host == v->me;

        if (v->replaced)
                return decide_replaced(v);
        if (!v->record)
                return v->qemu == QEMU_NONE ? ACTION_FORGET : ACTION_KILL;
        if (v->qemu != QEMU_NONE) {
                if (mine && (v->qemu_epoch == v->epoch || half_reclaimed(v->me, v->epoch, v->qemu_epoch,
                                                                         v->entry_source, v->entry_epoch)))
                        return decide_running(v);
                /* The destination of a migration that has not been committed yet. A placement at this epoch
                 * is a failover's: the source is dead, nothing more will come, and libvirt would notice in
                 * half a minute. */
                if (v->qemu_of_entry && v->entry_epoch == v->epoch && v->entry_destination == v->me)
                        return placed_on(v) == v->me && v->trusted ? ACTION_KILL : ACTION_NONE;
                return ACTION_KILL;
        }
        if (mine)
                return decide_absent(v);
        if (placed_on(v) != v->me)
                return ACTION_FORGET;
        if (v->wanted == WANTED_RUNNING)
                return start(v);
        /* Its owner is dead, and can no longer say that nothing runs: whoever has the name says it. */
        if (v->wanted == WANTED_STOPPED && v->told_off)
                return ACTION_FORGET;
        return v->trusted ? ACTION_CLAIM : ACTION_NONE;
}

bool instance_adopts(const struct instance_view *v)
{
        /* A source that stands after its switchover: it has run, or it would have no entry at this epoch. */
        bool source = v->entry_source == v->me && v->entry_epoch == v->epoch;

        if (v->qemu == QEMU_NONE || v->host != v->me || v->qemu_epoch != v->epoch)
                return false;
        return v->qemu == QEMU_RUNNING || source || v->qemu_go_on ||
               (v->pause != PAUSE_NONE && v->pause != PAUSE_PASSING);
}

bool instance_crashed(const struct instance_view *v, bool ran)
{
        return ran && v->host == v->me && v->qemu == QEMU_NONE && !v->guest_powered_off;
}

int64_t placement_look(struct placement_watch *w, const struct instance_view *v)
{
        unsigned placed = placed_on(v);
        bool elsewhere = v->record && v->host == v->me && v->qemu == QEMU_NONE && placed && placed != v->me;

        if (!elsewhere)
                w->since_ms = 0;
        else if (!w->since_ms || w->host != placed || w->epoch != v->epoch)
                w->since_ms = v->now_ms;
        w->host = placed;
        w->epoch = v->epoch;
        return w->since_ms;
}

bool placement_open(unsigned placement_host, uint64_t placement_epoch, unsigned owner, uint64_t epoch,
                    uint64_t start_epoch)
{
        bool unfinished =
            owner && owner == placement_host && placement_epoch < epoch && start_epoch <= placement_epoch;

        return placement_epoch == epoch || unfinished;
}

static enum gate_action refuse(const char **why, const char *text)
{
        *why = text;
        return GATE_REFUSE;
}

enum gate_action gate_decide(const struct gate_view *v, const char **why)
{
        bool entry = v->entry_source != 0 && v->entry_epoch == v->epoch;
        /* A hostd died here after its commit had won the claim. Nobody has run since, so what has arrived is
         * no older than the disk. */
        bool committed = v->again && v->entry_source != 0 && v->entry_epoch + 1 == v->epoch &&
                         v->host == v->me && v->run_epoch < v->epoch;

        *why = NULL;
        if (v->destination) {
                if ((!entry && !committed) || !v->attempt_equal)
                        return refuse(why, "its migration attempt is no longer valid");
                if (v->entry_destination != v->me)
                        return refuse(why, "its migration goes to another host");
                if (entry && v->host != v->entry_source)
                        return refuse(why, "the source of its migration no longer owns the disk");
                return GATE_COMMIT;
        }
        if (v->host != v->me)
                return refuse(why, "another host owns the disk");
        if (half_reclaimed(v->me, v->epoch, v->qemu_epoch, v->entry_source, v->entry_epoch))
                return GATE_RECLAIM;
        if (v->qemu_epoch != v->epoch)
                return refuse(why, "it belongs to an older epoch");
        if (entry && v->entry_source == v->me)
                return GATE_RECLAIM;
        return v->known || v->again ? GATE_CHECK : refuse(why, "hostd did not start it");
}

bool gate_spares(const struct gate_view *v, enum gate_action action, bool unanswered)
{
        if (action == GATE_REFUSE)
                return !v->known && !v->destination && v->host == v->me && v->run_last &&
                       v->run_epoch == v->epoch;
        return (action == GATE_CHECK || action == GATE_RECLAIM) && unanswered;
}
