# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# What a failover does when it does not go smoothly, and where it must not act. Three hosts.

# has_setting HOST KEY [VALUE]: in its hostd's [host] section from now on; without VALUE, the default again.
has_setting() {
        sed -i -e "/^$2 = /d" ${3+-e "s|^number = .*|&\n$2 = $3|"} "/run/wherry-lab/$1/hostd.conf"
        lab stop "$1" hostd >/dev/null
        lab start "$1" hostd >/dev/null
}

receipt() {
        instance_field "$1" ".receipts[-1] | $2"
}

story_a_target_that_cannot_start_it_hands_it_on() {
        given web h1
        has_setting h2 emulator /bin/false
        soon "all hosts up" 30 hosts_up
        lab power-off h1 >/dev/null
        runs_after_loss web h1 30
        soon "it runs on h3: $(where web)" 30 runs_on web h3
        happened start-failed web
        happened failover-retry web "host 3"
        [[ $(receipt web '"\(.from) \(.to) \(.tries) \(.tried)"') == "1 3 1 [2]" ]] || fail "receipt: $(receipt web .)"
        [[ $(receipt web '[.by, .detect_ms // .phases.detect_ms, .last_beat, .fence_since, .start] | all') == true ]] ||
                fail "receipt: $(receipt web .)"
        [[ $(receipt web .start) == $(instance_field web .start.id) && $(receipt web .phases.detect_ms) -ge 1500 ]]
        has_setting h2 emulator
        comes_back h1
        removed web
}

story_nobody_can_start_it_until_one_can() {
        given web h1
        has_setting h2 emulator /bin/false
        has_setting h3 emulator /bin/false
        soon "all hosts up" 30 hosts_up
        lab power-off h1 >/dev/null
        soon "told that it does not run, and why" 30 happened_now failover-failed web "starts failed"
        state_is web failed
        [[ $(instance_field web .status.error) == *false* ]] || fail "the record does not say why: $(instance_field web .status.error)"
        wherry show web | grep -qE "next try: *start [3-9] (in [0-9]+ s|at any moment)" || fail "show does not say when: $(wherry show web)"
        no_qemu web
        has_setting h2 emulator
        soon "it runs on h2" 40 runs_on web h2
        [[ $(instance_field web .status.error) == null ]]
        has_setting h3 emulator
        comes_back h1
        stays 1 runs_on web h2
        removed web
}

story_a_group_stays_apart_in_a_failover() {
        given one h1
        given two h2
        edit_record instance "$(id_of one)" group '"pair"'
        edit_record instance "$(id_of two)" group '"pair"'
        edit_record host 3 drained true
        lab power-off h1 >/dev/null
        soon "told why it does not run" 30 happened_now failover-failed one "another instance of its group"
        [[ $(instance_field one .status.error) == *"of its group"* ]] || fail "the record does not say why"
        stays 2 no_qemu one
        edit_record host 3 drained false
        soon "it runs on h3: $(where one)" 20 runs_on one h3
        comes_back h1
        refused "another instance of its group" wherry migrate two h3 --timeout 90
        runs_soon two h2
        removed one two
}

story_a_host_in_maintenance_is_not_taken_over() {
        given web h1
        edit_record host 1 maintenance true
        soon "h1 says so" 30 happened_on h1 host-maintenance
        lab power-off h1 >/dev/null
        soon "told that it is silent" 30 happened_on "h1 gives no sign" host-silent
        stays 3 host_is h1 up
        no_qemu web
        edit_record host 1 maintenance false
        runs_after_loss web h1 30
        comes_back h1
        removed web
}

# happened_on TEXT KIND
happened_on() {
        events | jq -e --arg text "$1" --arg kind "$2" 'any(.[]; .kind == $kind and (.text | contains($text)))'
}

story_the_one_that_carries_out_a_failover_dies_too() {
        local by
        given one h1
        given two h2
        given three h3
        lab power-off h1 >/dev/null
        soon "h1 is taken for dead" 20 host_is h1 dead
        by=$(wherry host show h1 --json | jq .taken.by)
        lab power-off "h$by" >/dev/null
        last=h$((5 - by))
        soon "all on $last: $(where one) $(where two) $(where three)" 30 eval "runs_on one $last && runs_on two $last && runs_on three $last"
        comes_back h1 "h$by"
        stays 2 eval "only_on one $last && only_on two $last && only_on three $last"
        removed one two three
}

story_everything_loses_power_at_once_and_comes_back() {
        local host before off=() nodes=(h1 h2 h3)
        given one h1
        given two h2
        given three h3
        before=$(took_over)
        [ "$store" = dir ] || nodes+=(store)
        for host in "${nodes[@]}"; do
                lab power-off "$host" >/dev/null &
                off+=($!)
        done
        wait "${off[@]}"
        no_qemu one
        # A store that comes last finds hosts that wait for it; lab needs it up to start hostd.
        [ "$store" = dir ] || lab power-on store >/dev/null
        for host in $(shuf -e h1 h2 h3); do
                lab power-on "$host" >/dev/null
                sleep "$((RANDOM % 3))"
        done
        # The first one that is up waits for the others, so each guest runs where it was.
        soon "one runs: $(where one)" 60 runs_on one h1
        soon "two runs: $(where two)" 60 runs_on two h2
        soon "three runs: $(where three)" 60 runs_on three h3
        soon "all hosts up" 30 hosts_up
        stays 3 eval "runs_on one h1 && runs_on two h2 && runs_on three h3"
        [[ $(took_over) == "$before" ]] || fail "a host was taken over"
        removed one two three
}

# All hosts were just started, by the story before or with the lab: they wait for those that they have not seen since.
story_a_host_that_came_back_and_dies_at_once_is_not_waited_for() {
        lab power-off h1 >/dev/null
        soon "h1 is taken for dead" 20 host_is h1 dead
        lab power-on h1 >/dev/null
        soon "h1 has joined" 30 not host_is h1 dead
        lab power-off h1 >/dev/null
        soon "h1 is taken for dead again" 20 host_is h1 dead
        comes_back h1
}

story_the_network_alone_is_cut() {
        local pid
        given web h1
        pid=$(pid_on web h1)
        lab cut h1 network >/dev/null
        # Its counter moves, its guest writes: whoever cannot reach it has no reason to take it over.
        stays 5 host_is h1 up || fail "taken over"
        [[ $(pid_on web h1) == "$pid" ]]
        soon "h1 says that it has no network" 20 not has_network h1
        lab heal h1 network >/dev/null
        soon "all hosts up" 20 hosts_up
        runs_soon web h1
        removed web
}

# Four busy loops a core beside the guests; WHS_LOAD_SECONDS makes it a measurement.
story_a_slow_host_is_not_a_dead_host() {
        local before loops=() i
        given one h1
        given two h2
        given three h3
        before=$(took_over)
        for ((i = 0; i < 4 * $(nproc); i++)); do
                (while :; do :; done) &
                loops+=($!)
        done
        trap 'kill "${loops[@]}" 2>/dev/null; writer_stop' EXIT
        sleep "${WHS_LOAD_SECONDS:-20}"
        kill "${loops[@]}"
        trap writer_stop EXIT
        [[ $(took_over) == "$before" ]] || fail "taken for dead: $(($(took_over) - before)) times in ${WHS_LOAD_SECONDS:-20} s"
        runs_soon one h1
        runs_soon two h2
        runs_soon three h3
        removed one two three
}
