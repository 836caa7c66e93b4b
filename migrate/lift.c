/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/lift.h"

#include "common/util.h"

static bool up(const struct ring_host *hosts, size_t n_hosts, unsigned number)
{
        for (size_t i = 0; i < n_hosts; i++)
                if (hosts[i].number == number)
                        return hosts[i].state == HOST_UP;
        return false;
}

unsigned lift_by(const struct ring_host *hosts, size_t n_hosts, unsigned owner, unsigned client_host)
{
        unsigned nearest = 0; /* distance on the ring; unsigned wraps as the ring does */

        if (owner == 0 || !up(hosts, n_hosts, owner))
                return 0;
        if (owner != client_host)
                return owner;
        for (size_t i = 0; i < n_hosts; i++) {
                unsigned distance = hosts[i].number - owner;

                if (hosts[i].state == HOST_UP && distance > 0 && (!nearest || distance < nearest))
                        nearest = distance;
        }
        return nearest ? owner + nearest : 0;
}

bool lift_proved(const struct machine *ran_on, const struct machine *answer, bool here)
{
        if (!ran_on->boot[0] || !answer->boot[0])
                return false;
        /* The very kernel that ran it. Who looks from another place, a container for instance, may miss it.
         */
        if (streq(ran_on->boot, answer->boot))
                return ran_on->view[0] && streq(ran_on->view, answer->view) && !here;
        /* Another start: no process outlives that. But another machine may have got the host's number. */
        return ran_on->board[0] && streq(ran_on->board, answer->board);
}

bool lift_round_due(int64_t last_ms, int64_t now_ms)
{
        return now_ms - last_ms >= LIFT_EVERY_MS;
}

bool lift_due(int64_t proved_ms, int64_t now_ms)
{
        return now_ms - proved_ms >= LIFT_GRACE_MS;
}
