/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/isolation.h"

bool isolation_asks(int64_t own_write_ms, int64_t now_ms)
{
        return now_ms - own_write_ms >= ISOLATION_ASK_MS;
}

int64_t isolation_steady(int64_t steady_ms, int64_t last_ms, int64_t write_ms)
{
        return write_ms - last_ms > ISOLATION_GAP_MS ? write_ms : steady_ms;
}

/* It may have taken us for dead. */
static bool may_act(const struct isolation_peer *peer, int64_t own_write_ms)
{
        return peer->wrote_ms - own_write_ms >= WATCH_DEAD_MS &&
               peer->wrote_ms - peer->steady_ms >= ISOLATION_STEADY_MS;
}

bool isolation_shut(const struct isolation_peer *peers, size_t n, int64_t own_write_ms, int64_t now_ms)
{
        bool up = false, silent = true;

        if (now_ms - own_write_ms < WATCH_DEAD_MS)
                return false;
        for (size_t i = 0; i < n; i++) {
                if (may_act(&peers[i], own_write_ms))
                        return true;
                up |= peers[i].up;
                silent &= peers[i].silent_ms >= ISOLATION_SILENT_MS;
        }
        return up && silent;
}

size_t isolation_peers(const struct ring_host *hosts, size_t n_hosts, unsigned me, size_t *ret, size_t n_ret)
{
        size_t n = 0;

        for (int up = 1; up >= 0; up--) {
                unsigned passed = 0; /* distance back on the ring; unsigned wraps as the ring does */

                while (n < n_ret) {
                        unsigned nearest = 0;

                        for (size_t i = 0; i < n_hosts; i++) {
                                unsigned distance = me - hosts[i].number;

                                if ((hosts[i].state == HOST_UP) != (up == 1) || distance <= passed ||
                                    (nearest && distance >= nearest))
                                        continue;
                                nearest = distance;
                                ret[n] = i;
                        }
                        if (!nearest)
                                break;
                        passed = nearest;
                        n++;
                }
        }
        return n;
}

bool isolation_opens(const struct instance_view *v)
{
        return v->trusted && v->record && v->host == v->me && v->qemu != QEMU_NONE &&
               v->qemu_epoch == v->epoch;
}

bool isolation_disowned(const struct instance_view *v)
{
        if (!v->record)
                return true;
        if (v->host == v->me)
                return false;
        return v->entry_epoch != v->epoch || v->entry_destination != v->me;
}

enum uplink uplink_look(struct uplink_watch *w, unsigned ports, unsigned carriers, int64_t now_ms)
{
        if (ports == 0 || carriers > 0) {
                w->dead_since_ms = 0;
                return UPLINK_GOOD;
        }
        if (!w->dead_since_ms)
                w->dead_since_ms = now_ms;
        if (now_ms - w->dead_since_ms < UPLINK_DEAD_MS)
                return UPLINK_GOOD;
        return now_ms - w->dead_since_ms < UPLINK_HAND_MS ? UPLINK_DEAD : UPLINK_HAND_ON;
}

bool uplink_leaves(const struct instance_view *v, enum uplink uplink)
{
        bool moves = v->move_to && v->move_epoch == v->epoch && v->move_to != v->me;

        return uplink == UPLINK_HAND_ON && v->trusted && v->record && v->host == v->me &&
               v->qemu == QEMU_RUNNING && v->qemu_epoch == v->epoch && v->wanted == WANTED_RUNNING &&
               !v->restart && !moves;
}

enum uplink_way uplink_way(bool reached, bool tried)
{
        return reached && !tried ? UPLINK_LIVE : UPLINK_RESTART;
}
