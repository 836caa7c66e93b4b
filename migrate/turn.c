/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/turn.h"

bool turn_leaves(unsigned limit, unsigned leaving, const struct turn *waiting, size_t n, size_t mine,
                 int64_t now_ms)
{
        const struct turn *me = &waiting[mine];
        unsigned before = 0;

        if (now_ms < me->not_before_ms)
                return false;
        for (size_t i = 0; i < n; i++)
                if (i != mine && now_ms >= waiting[i].not_before_ms &&
                    (waiting[i].since_ms < me->since_ms ||
                     (waiting[i].since_ms == me->since_ms && i < mine)))
                        before++;
        return leaving < limit && before < limit - leaving;
}

bool turn_arrives(unsigned limit, unsigned arriving)
{
        return arriving < limit;
}
