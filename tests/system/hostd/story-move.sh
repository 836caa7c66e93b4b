# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# Live migrations, and what can be killed or cut in the middle of one. A writer in the guest tells of every write that its
# disk has acknowledged; each story ends with all of them on the disk and the guest never booted anew.

# web_runs: somewhere, made anew unless an earlier story has left it; sets `here` and `there`, its host and the other.
web_runs() {
        here=h$(instance_field web .status.host 2>/dev/null || :)
        runs_on web "$here" >/dev/null 2>&1 || {
                here=h1
                given web h1
        }
        there=h$((3 - ${here#h}))
}

# under_writer: it runs, and a writer in it.
under_writer() {
        web_runs
        address=$(instance_address web)
        soon "ssh" 180 guest_answers "$address"
        boot=$(guest_on "$address" cat /proc/sys/kernel/random/boot_id)
        guest_on "$address" rm -f /root/log
        writer_start "$address"
        soon "the writer writes" 120 acked_beyond 10
}

# goes_on: the same boot, the same ssh session, and every acknowledged write is there.
goes_on() {
        local acked
        acked=$(acked_last)
        soon "the writer writes on" 120 acked_beyond $((acked + 10))
        writer_lives || fail "the ssh session has ended"
        [[ $(guest_on "$address" cat /proc/sys/kernel/random/boot_id) == "$boot" ]] || fail "booted anew"
        writer_stop
        log_check "$address" "$(acked_last)"
}

# slow_move: from here to there, begun, and so slow that it is in the middle until `hurry`.
slow_move() {
        lab exec "$here" virsh -q migrate-setspeed wherry-web 1
        wherry migrate web "$there" --no-wait >/dev/null
        soon "the move is under way" 20 moving "$here"
}

moving() {
        local job
        job=$(lab exec "$1" virsh -q domjobinfo --rawstats wherry-web)
        [[ $job =~ memory_processed[=:\ ]+([0-9]+) ]] && ((BASH_REMATCH[1] > 300000))
}

not_moving() {
        [[ $(lab exec "$1" virsh -q domjobinfo wherry-web) != *Unbounded* ]]
}

hurry() {
        lab exec "$here" virsh -q migrate-setspeed wherry-web 1000
}

# move_ended STATE
move_ended() {
        [[ $(instance_field web '"\(.status.move.serial == .move.serial) \(.status.move.state)"') == "true $1" ]]
}

# moves_to HOST: an ordinary move, which shows that whatever was before has left nothing in the way.
moves_to() {
        lab exec "$(instance_host web)" virsh -q migrate-setspeed wherry-web 1000
        wherry migrate web "$1" --timeout 120 >/dev/null
        runs_soon web "$1"
}

story_moves_there_and_back_while_it_writes() {
        under_writer
        moves_to "$there"
        moves_to "$here"
        goes_on
}

story_source_hostd_dies_in_the_middle() {
        under_writer
        slow_move
        daemon_dies "$here" hostd
        daemon_starts "$here" hostd
        soon "it runs on $here alone: $(where web)" 20 runs_on web "$here"
        hurry
        goes_on
        soon "the move has failed, and the record says so" 30 move_ended failed
        under_writer
        moves_to "$there"
        goes_on
}

story_destination_arrives_while_the_source_hostd_is_dead() {
        under_writer
        slow_move
        # Otherwise it is a race with the failover that takes the source for dead after 2 s, and is as right to win it.
        edit_record host "${here#h}" maintenance true
        daemon_dies "$here" hostd
        hurry
        soon "it runs on $there alone: $(where web)" 30 runs_on web "$there"
        daemon_starts "$here" hostd
        edit_record host "${here#h}" maintenance false
        soon "the move is done, and the record says so" 30 move_ended "done"
        stays 2 runs_on web "$there"
        goes_on
}

story_destination_hostd_dies_in_the_middle() {
        under_writer
        slow_move
        daemon_dies "$there" hostd
        # Nobody at the destination answers its lock driver, so its vCPUs never run; the source's hostd claims a fresh epoch before its own do.
        hurry
        soon "the move has failed" 20 move_ended failed
        soon "it runs on $here alone: $(where web)" 30 runs_on web "$here"
        daemon_starts "$there" hostd
        soon "both hosts up" 30 hosts_up
        goes_on
        under_writer
        moves_to "$there"
        goes_on
}

story_destination_libvirtd_dies_in_the_middle() {
        under_writer
        slow_move
        daemon_dies "$there" libvirtd
        soon "the move has failed" 60 move_ended failed
        daemon_starts "$there" libvirtd
        soon "it runs on $here alone: $(where web)" 20 runs_on web "$here"
        goes_on
        moves_to "$there"
}

story_source_libvirtd_dies_in_the_middle() {
        under_writer
        slow_move
        daemon_dies "$here" libvirtd
        daemon_starts "$here" libvirtd
        soon "it runs on $here alone: $(where web)" 60 runs_on web "$here"
        soon "the move has failed" 20 move_ended failed
        hurry
        goes_on
        moves_to "$there"
}

story_destination_loses_its_network_in_the_middle() {
        under_writer
        slow_move
        lab cut "$there" network >/dev/null
        soon "the move has failed" 60 move_ended failed
        soon "it runs on $here: $(where web)" 30 runs_on web "$here"
        lab heal "$there" network >/dev/null
        goes_on
        soon "$there is clean: $(where web)" 40 only_on web "$here"
        under_writer
        moves_to "$there"
        goes_on
}

story_hostds_killed_at_any_moment_of_a_move() {
        local round victim
        under_writer
        for round in $(seq 6); do
                here=$(instance_host web)
                there=h$((3 - ${here#h}))
                wherry migrate web "$there" --no-wait >/dev/null
                sleep "0.$(printf %03d $((RANDOM % 900)))"
                victim=$([ $((round % 2)) = 0 ] && echo "$here" || echo "$there")
                daemon_dies "$victim" hostd
                daemon_starts "$victim" hostd
                soon "round $round: it runs on one host: $(where web)" 40 settled
        done
        goes_on
}

settled() {
        runs_on web "$(instance_host web)" && not_moving "$(instance_host web)" &&
                [[ $(instance_field web '.status.move.serial == .move.serial') == true ]]
}

story_bad_wishes_are_refused_with_their_reason() {
        web_runs
        refused "no host" wherry migrate web h7
        refused "no host" wherry migrate web 77
        refused "already" wherry migrate web "$here"
        refused "no instance" wherry migrate nobody h1
        stays 1 runs_on web "$here"
}

# Nothing touches its memory, so it costs none.
big_takes_the_rest() {
        local free
        free=$(wherry host show "$there" --json | jq '.memory - .memory_used - 67108864')
        wherry run small --name big --host "$there" --memory "$free" --disk 512M --ssh-key "$dir/key.pub" --no-wait --json >/dev/null
}

story_a_full_host_refuses_and_says_why() {
        web_runs
        # What imaged has placed there itself a moment ago counts for some seconds, wherever it is by now.
        soon "big fits" 30 big_takes_the_rest
        soon "big runs" 30 only_on big "$there"
        refused "memory free" wherry migrate web "$there" --timeout 90
        stays 1 runs_on web "$here"
        removed big
        # The planner of imaged learns of it from its next list.
        soon "$there has room again" 20 wherry migrate web "$there" --timeout 90
        runs_soon web "$there"
        removed web
}
