# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154
#
# What the operator is told before and after: it has to be what happens.

story_a_drill_says_what_a_death_then_does() {
        local one two
        given one h1 --group db --priority 3
        given two h1
        given three h2 --group db
        wherry store check >/dev/null || fail "store check: $(wherry store check)"
        wherry host drill h1 --json >"$dir/drill.json" || fail "drill: $(<"$dir/drill.json")"
        one=$(jq -r '.instances[] | select(.name == "one") | .to_name' "$dir/drill.json")
        two=$(jq -r '.instances[] | select(.name == "two") | .to_name' "$dir/drill.json")
        [[ $one == h3 ]] || fail "one, whose group is on h2, would go to $one"
        lab power-off h1 >/dev/null
        soon "one runs where the drill said: $(where one)" 30 runs_on one "$one"
        soon "two runs where the drill said: $(where two)" 30 runs_on two "$two"
        soon "both failovers are told: $(wherry failovers --host h1 --json)" 10 failed_over h1 one,two
        wherry show one --history >"$dir/history"
        grep -q 'failed over from h1 to h3' "$dir/history" || fail "$(<"$dir/history")"
        grep -q 'in force since 20' "$dir/history" || fail "$(<"$dir/history")"
        wherry failovers
        cat "$dir/history"
        lab power-on h1 >/dev/null
        soon "all hosts up" 30 hosts_up
        removed one two three
}

# failed_over HOST NAMES: those are told of it.
failed_over() {
        [[ $(wherry failovers --host "$1" --json | jq -r '[.failovers[].name] | sort | join(",")') == "$2" ]]
}

story_a_host_in_maintenance_is_waited_for() {
        given kept h1
        wherry host maintenance h1 on >/dev/null
        [[ $(wherry host drill h1) == *'nobody would take it over'* ]] || fail "the drill does not say so: $(wherry host drill h1)"
        lab power-off h1 >/dev/null
        stays 6 not_taken h1
        lab power-on h1 >/dev/null
        soon "all hosts up" 30 hosts_up
        wherry host maintenance h1 off >/dev/null
        soon "kept runs where it was: $(where kept)" 30 runs_on kept h1
        removed kept
}

# not_taken HOST: nobody has taken it over.
not_taken() {
        ! host_is "$1" dead
}

# A name that was given back at once may be given again.
story_a_removed_name_is_free_at_once() {
        given web h1
        wherry rm web >/dev/null
        wherry run tiny --name web --host h2 --memory 128M --disk 512M --ssh-key "$dir/key.pub" --json >/dev/null
        removed web
}

story_hostd_stays_in_memory() {
        local n pid unit=$build/hostd/hostd.service
        for pid in $(ip netns pids wl-h1); do
                [[ $(cat "/proc/$pid/comm") != hostd ]] || break
        done
        # Locked from its first use on, whatever it is; the kernel lends it some pages that cannot be locked.
        n=$(awk '/^Size:/ { size = $2 } /^VmFlags:/ && !/ lo / && !/ (pf|io|dd) / { n += size } END { print n + 0 }' "/proc/$pid/smaps")
        ((n < 1024)) || fail "$n KiB of hostd's are not locked"
        grep -q "^LimitMEMLOCK=infinity" "$unit"
        (($(sed -n 's/^OOMScoreAdjust=//p' "$unit") < 0)) || fail "the kernel would end hostd for memory as soon as a guest"
}

waits() {
        [[ $(instance_field "$1" '.status.waiting.serial == .move.serial') == true ]]
}

leaves() {
        [[ $(lab exec h1 virsh -q domjobinfo "wherry-$1") == *Unbounded* ]]
}

move_error_is() {
        [[ $(instance_field "$1" .status.move.error) == "$2" ]]
}

# A host sends two at the same time, unless its configuration says another number.
story_moves_wait_for_their_turn_and_a_stop_ends_wait_and_move() {
        local n
        given fourth h1
        for n in first second third; do
                given_linux "$n" h1
                lab exec h1 virsh -q migrate-setspeed "wherry-$n" 1
        done
        for n in first second; do
                placed wherry migrate "$n" h2 --no-wait
                soon "$n leaves" 30 leaves "$n"
        done
        for n in third fourth; do
                placed wherry migrate "$n" h2 --no-wait
                soon "$n waits" 30 waits "$n"
        done
        wherry show third | grep -q "waits for its turn: host h1 sends 2 at the same time" || fail "$(wherry show third)"
        wherry stop fourth --force --timeout 90 >/dev/null
        soon "fourth was told: $(instance_field fourth .status)" 10 move_error_is fourth "the instance was stopped before its turn came"
        not waits fourth
        { leaves first && leaves second; } || fail "the others have not gone on"
        not leaves third || fail "third did not wait"
        lab exec h1 virsh -q migrate-setspeed wherry-first 1000
        runs_soon first h2
        soon "third's turn has come" 30 leaves third
        not waits third
        wherry stop second --timeout 90 >/dev/null # of its move there is a minute left
        soon "second was told: $(instance_field second .status)" 10 move_error_is second "cancelled: the instance is to stop"
        no_qemu second || fail "second was not stopped: $(where second)"
        lab exec h1 virsh -q migrate-setspeed wherry-third 1000
        runs_soon third h2
        removed first second third fourth
}
