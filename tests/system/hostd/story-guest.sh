# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# Stories of a guest that hears its power button, or powers itself off. They need a Linux.

story_restart_counts_once() {
        local before epoch
        given_linux own h2
        # Asked politely, so there has to be somebody to hear it.
        soon "ssh" 180 guest_answers "$(instance_address own)"
        before=$(pid_on own h2)
        wherry restart own --timeout 90 >/dev/null
        soon "another QEMU" 30 runs_on own h2
        [[ $(pid_on own h2) != "$before" ]]
        before=$(pid_on own h2) epoch=$(epoch_of own)
        daemon_dies h2 hostd
        daemon_starts h2 hostd
        stays 3 only_on own h2
        [[ $(pid_on own h2) == "$before" && $(epoch_of own) == "$epoch" ]] || fail "restarted once more"
        [[ $(instance_field own '.restart == .status.restart') == true ]]
}

story_a_guest_that_powers_itself_off_stays_off() {
        local address
        given_linux own h2
        address=$(instance_address own)
        soon "ssh" 180 guest_answers "$address"
        guest_ssh 20 "$address" poweroff || :
        soon "it is stopped" 30 state_is own stopped
        [[ $(instance_field own .wanted) == stopped ]]
        stays 4 no_qemu own || fail "it was started again"
        wherry start own >/dev/null
        runs_soon own h2
}

story_a_guest_that_powers_itself_off_while_hostd_is_away_stays_off() {
        local address
        given_linux own h2
        address=$(instance_address own)
        soon "ssh" 180 guest_answers "$address"
        lab stop h2 hostd >/dev/null
        guest_ssh 20 "$address" poweroff || :
        soon "it has ended" 30 no_qemu own
        lab start h2 hostd >/dev/null
        soon "it is stopped" 30 state_is own stopped
        [[ $(instance_field own .wanted) == stopped ]]
        stays 3 no_qemu own || fail "it was started again"
        wherry start own >/dev/null
        runs_soon own h2
        # A QEMU that was killed meanwhile is another matter.
        lab stop h2 hostd >/dev/null
        kill -TERM "$(pid_on own h2)"
        soon "it has ended" 30 no_qemu own
        lab start h2 hostd >/dev/null
        soon "hostd starts it again" 20 runs_on own h2
        soon "h2 is up for imaged, too" 20 host_is h2 up # until then a start would go elsewhere
}

story_a_restart_asked_for_while_it_boots_is_asked_again() {
        local before
        given_linux own h2
        wherry stop own --force >/dev/null
        wherry start own >/dev/null
        before=$(pid_on own h2)
        # QEMU tells of each press of its power button; one that boots hears none of the first.
        lab exec h2 timeout 100 stdbuf -oL virsh qemu-monitor-event wherry-own POWERDOWN --loop --timeout 90 \
                >"$dir/asked" 2>&1 &
        sleep 1 # until virsh listens, which it does not tell
        wherry restart own --no-wait >/dev/null
        soon "asked twice: $(cat "$dir/asked")" 90 asked_twice
        soon "another QEMU" 90 eval '! [[ $(pid_on own h2) =~ ^('"$before"')?$ ]]'
        runs_soon own h2
        removed own
}

asked_twice() {
        (($(grep -c POWERDOWN "$dir/asked") > 1))
}
