/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/admission.h"

#include <errno.h>
#include <string.h>

#include "migrate/turn.h"

int admission_check(const struct admission_view *v, struct err *err)
{
        const struct planner_need need = {.cpus = v->cpus, .memory = v->memory};
        char why[160];

        if (v->group[0] && v->group_here)
                return err_set(err, -EEXIST, "instance %s of the same group %s is on host %s already",
                               v->group_here, strchr(v->group, '/') + 1, v->host);
        if (!v->promised && v->ends)
                return err_set(err, -EAGAIN, "hostd on host %s ends", v->host);
        if (!v->promised && !v->known)
                return err_set(err, -EAGAIN, "host %s is still finding out what runs on it", v->host);
        if (!v->promised && !planner_fits(&v->free, &need, why, sizeof(why)))
                return err_set(err, -ENOSPC, "host %s %s", v->host, why);
        if (v->arrival && v->acts)
                return err_set(err, -EUSERS, "host %s is still starting or ending an earlier QEMU of it",
                               v->host);
        if (v->arrival && !turn_arrives(v->arriving_max, v->arriving))
                return err_set(err, -EUSERS, "host %s takes %u at the same time, and others are arriving",
                               v->host, v->arriving_max);
        return 0;
}

bool admission_acts(enum instance_action action)
{
        switch (action) {
        case ACTION_KILL:
        case ACTION_START:
        case ACTION_STOP:
        case ACTION_RESTART:
        case ACTION_REMOVE:
                return true;
        default:
                return false;
        }
}

/* The instance is on its way here: the record's entry is valid and names this host as the destination. An
 * instance that is placed is not: its source was taken for dead, and it starts from its disk, where the start
 * is counted. */
static bool entered(const struct instance_view *v)
{
        bool placed = v->placement_epoch == v->epoch && v->placement_host;

        return v->entry_epoch == v->epoch && v->entry_source && v->entry_destination == v->me && !placed;
}

bool admission_arrives(const struct instance_view *v, int64_t until_ms)
{
        return v->record && (entered(v) || v->now_ms < until_ms);
}

bool admission_keeps(const struct instance_view *v, int64_t until_ms)
{
        unsigned placed = v->placement_epoch == v->epoch ? v->placement_host : 0;

        if (!v->record)
                return false;
        if (v->qemu != QEMU_NONE || admission_arrives(v, until_ms))
                return true;
        return v->host == v->me && v->wanted == WANTED_RUNNING && (!placed || placed == v->me);
}

bool admission_due(const struct instance_view *v, bool first_look)
{
        return v->record && (entered(v) ? first_look : v->qemu != QEMU_NONE);
}
