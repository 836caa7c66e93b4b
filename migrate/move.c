/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/move.h"

enum move_verdict move_verdict(const struct move_view *v)
{
        if (v->entry && v->arrived)
                return MOVE_DONE;
        if (v->epoch == v->asked_epoch) /* the attempt is valid as long as nobody has claimed */
                return MOVE_OPEN;
        /* The destination has won the claim, and the record does not say yet that its QEMU may run. */
        if (v->entry && v->host == v->to && v->epoch == v->asked_epoch + 1 && v->run_epoch < v->epoch &&
            !v->ended)
                return MOVE_OPEN;
        return MOVE_FAILED;
}
