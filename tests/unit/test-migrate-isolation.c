/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/util.h"
#include "migrate/isolation.h"

#define OWN 100000 /* when this host last wrote */

static void it_shuts_when_a_peer_has_written_so_late_that_others_may_act(void **state)
{
        struct isolation_peer peer = {.up = true, .wrote_ms = OWN + 2000};

        assert_true(isolation_shut(&peer, 1, OWN, OWN + 2600));
        peer.wrote_ms = OWN + 1999;
        assert_false(isolation_shut(&peer, 1, OWN, OWN + 2600));
        /* The verdict stays when that peer falls silent. */
        peer.wrote_ms = OWN + 2000;
        assert_true(isolation_shut(&peer, 1, OWN, OWN + 90000));
        /* Our next write ends it. */
        assert_false(isolation_shut(&peer, 1, OWN + 4000, OWN + 5999));
}

/* The storage was away for all, for 20 s: a peer's first write reaches it before ours. */
static void a_peer_that_has_just_come_back_may_not_act_yet(void **state)
{
        struct isolation_peer peer = {.up = true};
        int64_t last = OWN + 250;

        for (int64_t t = OWN + 20000; t <= OWN + 21000; t += 500) {
                peer.steady_ms = isolation_steady(peer.steady_ms, last, t);
                peer.wrote_ms = last = t;
                assert_int_equal(peer.steady_ms, OWN + 20000);
                assert_false(isolation_shut(&peer, 1, OWN, t + 100));
        }
        peer.wrote_ms = OWN + 20000 + ISOLATION_STEADY_MS - 1;
        assert_false(isolation_shut(&peer, 1, OWN, OWN + 22000));
        peer.wrote_ms = OWN + 20000 + ISOLATION_STEADY_MS; /* it writes, and we do not */
        assert_true(isolation_shut(&peer, 1, OWN, OWN + 22000));
}

static void a_write_that_is_late_is_no_gap(void **state)
{
        assert_int_equal(isolation_steady(0, OWN, OWN + 500), 0);
        assert_int_equal(isolation_steady(7, OWN, OWN + ISOLATION_GAP_MS), 7);
        assert_int_equal(isolation_steady(7, OWN, OWN + ISOLATION_GAP_MS + 1), OWN + ISOLATION_GAP_MS + 1);
}

static void nobody_acts_before_two_seconds(void **state)
{
        const struct isolation_peer peer = {.up = true, .wrote_ms = OWN + 2000};

        assert_false(isolation_shut(&peer, 1, OWN, OWN + 1999));
        assert_true(isolation_shut(&peer, 1, OWN, OWN + 2000));
}

/* Everybody's last write is of the last half second before the storage went. */
static void a_storage_that_is_away_for_everybody_shuts_nobody(void **state)
{
        struct isolation_peer peers[] = {{.up = true, .wrote_ms = OWN + 500},
                                         {.up = true, .wrote_ms = OWN + 1900},
                                         {.up = true, .wrote_ms = OWN - 500}};

        for (int64_t t = OWN; t <= OWN + 90000; t += 250) {
                for (size_t i = 0; i < 3; i++)
                        peers[i].silent_ms = 500;
                assert_false(isolation_shut(peers, 3, OWN, t));
        }
}

static void it_shuts_when_no_peer_answers(void **state)
{
        struct isolation_peer peers[] = {{.up = true, .silent_ms = 1700}, {.up = true, .silent_ms = 1499}};

        assert_false(isolation_shut(peers, 2, OWN, OWN + 2600));
        peers[1].silent_ms = 1500;
        assert_true(isolation_shut(peers, 2, OWN, OWN + 2600));
        assert_false(isolation_shut(peers, 2, OWN, OWN + 1999));
        peers[0].silent_ms = 0; /* it has answered */
        assert_false(isolation_shut(peers, 2, OWN, OWN + 90000));
}

static void silence_of_hosts_that_are_known_to_be_off_means_nothing(void **state)
{
        const struct isolation_peer peers[] = {{.up = false, .silent_ms = 5000}};

        assert_false(isolation_shut(peers, 1, OWN, OWN + 90000));
        assert_false(isolation_shut(NULL, 0, OWN, OWN + 90000));
}

static void peers_are_asked_before_others_may_act(void **state)
{
        assert_false(isolation_asks(OWN, OWN + ISOLATION_ASK_MS - 1));
        assert_true(isolation_asks(OWN, OWN + ISOLATION_ASK_MS));
}

static void those_are_asked_first_that_would_take_this_host_over(void **state)
{
        const struct ring_host hosts[] = {
            {.number = 7}, {.number = 2}, {.number = 4, .state = HOST_DEAD},
            {.number = 9}, {.number = 5}, {.number = 3, .state = HOST_STOPPED}};
        size_t n[8];

        assert_int_equal(isolation_peers(hosts, 6, 5, n, 8), 5);
        assert_int_equal(hosts[n[0]].number, 2); /* up, back on the ring */
        assert_int_equal(hosts[n[1]].number, 9);
        assert_int_equal(hosts[n[2]].number, 7);
        assert_int_equal(hosts[n[3]].number, 4); /* then those that may be back */
        assert_int_equal(hosts[n[4]].number, 3);
        assert_int_equal(isolation_peers(hosts, 6, 5, n, 2), 2);
        assert_int_equal(hosts[n[1]].number, 9);
        assert_int_equal(isolation_peers(hosts + 4, 1, 5, n, 8), 0);
}

static void only_a_look_at_the_name_opens(void **state)
{
        const struct instance_view mine = {.me = 1,
                                           .trusted = true,
                                           .record = true,
                                           .host = 1,
                                           .epoch = 4,
                                           .qemu = QEMU_RUNNING,
                                           .qemu_epoch = 4};
        struct instance_view v = mine;

        assert_true(isolation_opens(&v));
        v.trusted = false;
        assert_false(isolation_opens(&v));
        v = mine;
        v.host = 2;
        assert_false(isolation_opens(&v));
        v = mine;
        v.qemu_epoch = 3;
        assert_false(isolation_opens(&v));
        v = mine;
        v.record = false;
        assert_false(isolation_opens(&v));
}

static void without_libvirt_only_another_hosts_guest_ends(void **state)
{
        struct instance_view v = {.me = 1, .record = true, .host = 2, .epoch = 4};

        assert_true(isolation_disowned(&v));
        v.host = 1;
        assert_false(isolation_disowned(&v));
        v.host = 2;
        v.entry_epoch = 4;
        v.entry_source = 2;
        v.entry_destination = 1;
        assert_false(isolation_disowned(&v)); /* it may arrive */
        v.epoch = 5;
        assert_true(isolation_disowned(&v));
        v = (struct instance_view){.me = 1};
        assert_true(isolation_disowned(&v));
}

static void an_uplink_is_dead_after_a_while_only(void **state)
{
        struct uplink_watch w = {0};

        assert_int_equal(uplink_look(&w, 1, 1, 1000), UPLINK_GOOD);
        assert_int_equal(uplink_look(&w, 2, 0, 2000), UPLINK_GOOD);
        assert_int_equal(uplink_look(&w, 2, 0, 6999), UPLINK_GOOD);
        assert_int_equal(uplink_look(&w, 2, 0, 7000), UPLINK_DEAD);
        assert_int_equal(uplink_look(&w, 2, 0, 11999), UPLINK_DEAD);
        assert_int_equal(uplink_look(&w, 2, 0, 12000), UPLINK_HAND_ON);
        assert_int_equal(uplink_look(&w, 2, 1, 12100), UPLINK_GOOD);
        assert_int_equal(uplink_look(&w, 2, 0, 12200), UPLINK_GOOD); /* it begins again */
        assert_int_equal(uplink_look(&w, 2, 0, 17199), UPLINK_GOOD);
}

static void a_guest_leaves_a_dead_uplink_once_alive(void **state)
{
        const struct instance_view runs = {.me = 1,
                                           .trusted = true,
                                           .record = true,
                                           .host = 1,
                                           .epoch = 4,
                                           .wanted = WANTED_RUNNING,
                                           .qemu = QEMU_RUNNING,
                                           .qemu_epoch = 4};
        struct instance_view v = runs;

        assert_true(uplink_leaves(&v, UPLINK_HAND_ON));
        assert_false(uplink_leaves(&v, UPLINK_DEAD));
        assert_false(uplink_leaves(&v, UPLINK_GOOD));
        v.move_to = 2;
        v.move_epoch = 4;
        assert_false(uplink_leaves(&v, UPLINK_HAND_ON)); /* it is leaving */
        v.move_epoch = 3;
        assert_true(uplink_leaves(&v, UPLINK_HAND_ON));
        v = runs;
        v.wanted = WANTED_STOPPED;
        assert_false(uplink_leaves(&v, UPLINK_HAND_ON));
        v = runs;
        v.trusted = false;
        assert_false(uplink_leaves(&v, UPLINK_HAND_ON));
        v = runs;
        v.qemu = QEMU_PAUSED;
        assert_false(uplink_leaves(&v, UPLINK_HAND_ON));
        assert_int_equal(uplink_way(true, false), UPLINK_LIVE);
        assert_int_equal(uplink_way(true, true), UPLINK_RESTART);
        assert_int_equal(uplink_way(false, false), UPLINK_RESTART);
}

static void a_bridge_without_an_uplink_is_no_fault(void **state)
{
        struct uplink_watch w = {0};

        assert_int_equal(uplink_look(&w, 0, 0, 1000), UPLINK_GOOD);
        assert_int_equal(uplink_look(&w, 0, 0, 1000000), UPLINK_GOOD);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(it_shuts_when_a_peer_has_written_so_late_that_others_may_act),
            cmocka_unit_test(a_peer_that_has_just_come_back_may_not_act_yet),
            cmocka_unit_test(a_write_that_is_late_is_no_gap),
            cmocka_unit_test(nobody_acts_before_two_seconds),
            cmocka_unit_test(a_storage_that_is_away_for_everybody_shuts_nobody),
            cmocka_unit_test(it_shuts_when_no_peer_answers),
            cmocka_unit_test(silence_of_hosts_that_are_known_to_be_off_means_nothing),
            cmocka_unit_test(peers_are_asked_before_others_may_act),
            cmocka_unit_test(those_are_asked_first_that_would_take_this_host_over),
            cmocka_unit_test(only_a_look_at_the_name_opens),
            cmocka_unit_test(without_libvirt_only_another_hosts_guest_ends),
            cmocka_unit_test(an_uplink_is_dead_after_a_while_only),
            cmocka_unit_test(a_guest_leaves_a_dead_uplink_once_alive),
            cmocka_unit_test(a_bridge_without_an_uplink_is_no_fault),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
