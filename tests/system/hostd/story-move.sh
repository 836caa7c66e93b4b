# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# Live migrations, and what can be killed or cut in the middle of one. A writer in the guest tells of every write that its
# disk has acknowledged; each story ends with all of them on the disk and the guest never booted anew.

# web_runs: somewhere, made anew unless an earlier story has left it; sets `here` and `there`, its host and the other.
web_runs() {
        here=h$(instance_field web .status.host 2>/dev/null || :)
        { runs_on web "$here" && ! not_linux web; } >/dev/null 2>&1 || {
                here=h1
                given_linux web h1
        }
        there=h$((3 - ${here#h}))
}

# under_writer: it runs, and a writer in it.
under_writer() {
        web_runs
        address=$(instance_address web)
        soon "ssh" 180 guest_answers "$address"
        boot_read
        boot=$boot_now
        guest_on "$address" rm -f /root/log
        writer_start "$address"
        soon "the writer writes" 120 acked_beyond 10
}

# boot_read: into `boot_now`.
boot_read() {
        boot_now=$(guest_on "$address" cat /proc/sys/kernel/random/boot_id) && [[ -n $boot_now ]] || fail "the guest does not say which boot this is"
}

# goes_on: the same boot, the same ssh session, and every acknowledged write is there.
goes_on() {
        local acked
        acked=$(acked_last)
        soon "the writer writes on" 120 writes_or_ended $((acked + 10))
        writer_lives || fail "the ssh session has ended: $(where web)"
        boot_read
        [[ $boot_now == "$boot" ]] || fail "booted anew"
        writer_stop
        log_check "$address" "$(acked_last)"
}

# writes_or_ended NUMBER: a guest that was booted anew ends the session at once, and need not be waited for.
writes_or_ended() {
        acked_beyond "$1" || not writer_lives
}

# slow_move: from here to there, begun, and so slow that it is in the middle until `hurry`.
slow_move() {
        lab exec "$here" virsh -q migrate-setspeed wherry-web 1
        placed wherry migrate web "$there" --no-wait
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
        placed wherry migrate web "$1" --timeout 120
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

# Without its hostd nobody at the destination could commit the move.
story_destination_goes_down_in_order_in_the_middle() {
        local shutdown status=0
        under_writer
        slow_move
        lab shutdown "$there" >"$dir/shutdown" 2>&1 &
        shutdown=$!
        stays 5 kill -0 "$shutdown" || fail "it is down already, and a guest was arriving: $(cat "$dir/shutdown")"
        hurry
        wait "$shutdown" || status=$?
        [[ $status == 0 ]] || fail "shutdown: $(cat "$dir/shutdown")"
        # Live, or by a stop there and a start here: the source's libvirt may not be done with the first move yet.
        soon "it was handed back to $here: $(where web)" 60 runs_on web "$here"
        soon "ssh" 180 guest_answers "$address"
        writer_stop
        log_check "$address" "$(acked_last)"
        lab power-on "$there" >/dev/null
        soon "both hosts are alive" 30 hosts_alive 2
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

# told_as_it_is STATUS: what the command said in $dir/said, and its status; the record; and the event: all as it has come.
told_as_it_is() {
        if [[ $(instance_host web) == "$there" ]]; then
                move_ended "done" && [[ $1 == 0 ]] && happened instance-migrated web
        else
                move_ended failed && [[ $1 != 0 ]] && happened migration-failed web
        fi || fail "it runs on $(instance_host web), and was told: $(cat "$dir/said"), $(instance_field web .status.move)"
        [[ $(instance_field web .status.move.downtime_ms) != 0 ]] || fail "it stood still for 0 ms"
}

# Its answer is lost, and what it was doing may go on.
story_source_libvirtd_is_restarted_in_the_middle() {
        local asker status
        under_writer
        lab exec "$here" virsh -q migrate-setspeed wherry-web 1
        wherry migrate web "$there" --timeout 180 >"$dir/said" 2>&1 &
        asker=$!
        soon "the move is under way" 20 moving "$here"
        hurry
        lab stop "$here" libvirtd >/dev/null
        daemon_starts "$here" libvirtd
        status=0
        wait "$asker" || status=$?
        soon "it runs on one host: $(where web)" 60 settled
        told_as_it_is "$status"
        goes_on
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
        soon "both hosts up" 30 hosts_up
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
                placed wherry migrate web "$there" --no-wait
                sleep "0.$(printf %03d $((RANDOM % 900)))"
                victim=$([ $((round % 2)) = 0 ] && echo "$here" || echo "$there")
                daemon_dies "$victim" hostd
                daemon_starts "$victim" hostd
                soon "round $round: it runs on one host: $(where web)" 40 settled
        done
        goes_on
}

# asked_again HOST: how often libvirt's question there had to be put to a second hostd.
asked_again() {
        grep -c "gate, asked again" "/var/tmp/wherry-lab/$1/log/hostd.log" || :
}

# dies_after_claim HOST NAME: kills that host's hostd as soon as the disk's folder has this name, which the storage has then
# taken and nobody has heard of. No command in the loop: what hostd does next takes a few milliseconds.
dies_after_claim() {
        local pid end=$((SECONDS + 30))
        for pid in $(ip netns pids "wl-$1"); do
                [[ $(cat "/proc/$pid/comm") != hostd ]] || break
        done
        until [[ -e $2 ]]; do
                ((SECONDS < end)) || fail "the disk was never claimed as $2"
        done
        kill -KILL "$pid"
}

# disk_folder: where the storage has it now, before ".eEPOCH.hHOST".
disk_folder() {
        local folder
        folder=$(find /var/tmp/wherry-lab/store -maxdepth 5 -name "$(id_of web).e*")
        echo "${folder%.e*}"
}

story_source_hostd_dies_between_claim_and_answer() {
        local folder killer
        under_writer
        folder=$(disk_folder)
        slow_move
        daemon_dies "$there" hostd
        dies_after_claim "$here" "$folder.e$(($(epoch_of web) + 1)).$here" &
        killer=$!
        # Nobody at the destination says yes, so the source is to run on.
        hurry
        wait "$killer"
        daemon_starts "$here" hostd
        daemon_starts "$there" hostd
        soon "both hosts up" 30 hosts_up
        soon "it runs on $here alone: $(where web)" 30 runs_on web "$here"
        goes_on
        moves_to "$there"
}

story_destination_hostd_dies_between_claim_and_answer() {
        local folder killer round hits=0
        under_writer
        folder=$(disk_folder)
        for round in $(seq 10); do
                here=$(instance_host web)
                there=h$((3 - ${here#h}))
                hits=$((hits - $(asked_again "$there")))
                dies_after_claim "$there" "$folder.e$(($(epoch_of web) + 1)).$there" &
                killer=$!
                placed wherry migrate web "$there" --no-wait
                wait "$killer"
                daemon_starts "$there" hostd
                soon "round $round: it runs on one host: $(where web)" 40 settled
                soon "both hosts up" 30 hosts_up
                hits=$((hits + $(asked_again "$there")))
                ((hits < 2)) || break
        done
        ((hits > 0)) || fail "each of the hostds had answered before it was killed"
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

# Nothing touches its memory, so it costs none. QEMU's own counts as well: planner_memory().
big_takes_the_rest() {
        local free
        free=$(wherry host show "$there" --json | jq '(.memory - .memory_used - 67108864 - 104 * 1048576) * 512 / 513 | floor')
        wherry run tiny --name big --host "$there" --memory "$free" --disk 512M --ssh-key "$dir/key.pub" --no-wait \
                --json >/dev/null
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
}
