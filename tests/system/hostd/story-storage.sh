# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# A host loses its storage, or the store loses everybody. On nfs and rbd: a directory has no cable.

story_a_host_loses_its_storage() {
        local address old acked
        given_linux web h1
        address=$(instance_address web)
        soon "ssh" 180 guest_answers "$address"
        writer_start "$address"
        soon "the writer writes" 120 acked_beyond 20
        old=$(pid_on web h1)
        lab cut h1 storage >/dev/null
        soon "it runs on h2" 30 eval 'qemu_runs "$(qemu_pid h2 web)"'
        # Nothing that the old one is told is on disk after that; what it was told before has to be there.
        writer_stop
        acked=$(acked_last)
        ! process_gone "$old" || fail "the old QEMU ended while its cable was out: nothing to prove"
        lab heal h1 storage >/dev/null
        soon "the old QEMU is ended" 30 process_gone "$old"
        soon "it runs on h2 alone: $(where web)" 30 runs_on web h2
        soon "h1 has joined again" 20 hosts_up
        soon "ssh" 180 guest_answers "$address"
        log_check "$address" "$acked"
        guest_on "$address" 'fsync-writer /root/log --count 5' >/dev/null
        stays 1 runs_on web h2
}

story_a_host_loses_storage_and_network() {
        local old
        given cut h1
        old=$(pid_on cut h1)
        lab cut h1 network >/dev/null
        lab cut h1 storage >/dev/null
        soon "it runs on h2" 30 eval 'qemu_runs "$(qemu_pid h2 cut)"'
        ! process_gone "$old" || fail "the old QEMU ended while its cables were out: nothing to prove"
        lab heal h1 >/dev/null
        soon "the old QEMU is ended" 60 process_gone "$old"
        soon "h1 has joined again" 60 hosts_up
        runs_soon cut h2
        removed cut
}

story_the_store_is_away_for_five_seconds() {
        local address pid epoch dead acked
        given_linux web h2
        given more h1
        address=$(instance_address web)
        soon "ssh" 180 guest_answers "$address"
        pid=$(where web) epoch="$(epoch_of web) $(epoch_of more)" dead=$(took_over) pid+=$(where more)
        writer_start "$address"
        soon "the writer writes" 120 acked_beyond 20
        lab power-off store >/dev/null
        sleep 5
        lab power-on store >/dev/null
        soon "all hosts up" 30 hosts_up
        acked=$(acked_last)
        soon "the writer writes on" 120 acked_beyond $((acked + 10))
        writer_stop
        log_check "$address" "$(acked_last)"
        [[ $(took_over) == "$dead" ]] || fail "a host was taken for dead"
        [[ "$(epoch_of web) $(epoch_of more)" == "$epoch" && "$(where web)$(where more)" == "$pid" ]] ||
                fail "not the same QEMUs: $(where web) $(where more), were $pid"
        stays 2 runs_on web h2
        removed web more
}
