/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/move.h"

/* Says whether the owner's QEMU has come and gone, or never comes. Where the guest should run, the next start moves the
 * name on: only that keeps it from arriving after all, at the owner or at a machine that had its number before. */
static bool owner_ended(const struct move_view *v)
{
        return v->mine && v->absent && !v->wanted;
}

enum move_verdict move_verdict(const struct move_view *v)
{
        if (v->entry && v->arrived)
                return MOVE_DONE;
        if (v->epoch == v->asked_epoch) /* the attempt is valid as long as nobody has claimed */
                return MOVE_OPEN;
        /* The destination has won the claim, and the record does not say yet that its QEMU may run. */
        if (v->entry && v->host == v->to && v->epoch == v->asked_epoch + 1 && v->run_epoch < v->epoch &&
            !owner_ended(v))
                return MOVE_OPEN;
        return MOVE_FAILED;
}

enum move_teller move_teller(const struct move_outlook *o)
{
        bool current = o->asked_epoch == o->epoch;

        if (!o->record)
                return MOVE_NOBODY;
        if (o->own)
                return MOVE_SOURCE;
        if (o->told || !o->mine)
                return MOVE_NOBODY;
        if (current) /* it may still be carried out */
                return !o->wanted && !o->begun ? MOVE_GIVE_UP : MOVE_NOBODY;
        return MOVE_OWNER;
}

bool move_owner_waits(enum move_verdict verdict, int64_t since_ms, int64_t now_ms)
{
        return verdict == MOVE_DONE && now_ms - since_ms < MOVE_TOLD_MS;
}
