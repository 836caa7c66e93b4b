# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# Hosts die, or seem to. Three of them, so that there is a choice and a majority of the living.

# elsewhere NAME HOST: its vCPU runs on one host other than that. Prints which.
elsewhere() {
        local at host=
        for at in $(where "$1"); do
                [[ $at != "$2":* ]] && qemu_runs "${at#*:}" || continue
                [[ -z $host ]] || return 1
                host=${at%%:*}
        done
        [[ -n $host ]] && echo "$host"
}

# runs_after_loss NAME HOST SECONDS
runs_after_loss() {
        soon "$1 runs on another host than $2: $(where "$1")" "$3" elsewhere "$1" "$2"
}

comes_back() {
        local host
        for host; do
                lab power-on "$host" >/dev/null
        done
        soon "all hosts up" 30 hosts_up
}

story_a_host_dies_while_imaged_is_dead() {
        local now epoch
        given web h1
        epoch=$(epoch_of web)
        daemon_dies ctl imaged
        lab power-off h1 >/dev/null
        runs_after_loss web h1 30
        daemon_starts ctl imaged
        now=$(elsewhere web h1)
        soon "the record says so" 30 runs_on web "$now"
        (($(epoch_of web) > epoch))
        [[ $(instance_field web '.receipts[-1] | "\(.from) h\(.to)"') == "1 $now" ]] || fail "no receipt"
        soon "told" 30 happened_now failover web
        comes_back h1
        stays 3 runs_on web "$now" || fail "its return disturbed the guest: $(where web)"
        placed wherry migrate web h1 --timeout 120
        runs_soon web h1
}

# A wish that comes between a host's death and its take-over is not answered by the dead owner's last word.
story_a_stop_after_the_hosts_death_is_confirmed_by_another() {
        given late h1
        lab power-off h1 >/dev/null
        wherry stop late --force --timeout 60 >/dev/null || fail "not confirmed: $(instance_field late .status)"
        [[ $(instance_field late '.status | "\(.state) \(.host != 1)"') == "stopped true" ]] ||
                fail "it was not another host: $(instance_field late .status)"
        no_qemu late
        wherry start late --timeout 90 >/dev/null
        soon "late runs: $(where late)" 60 elsewhere late h1
        comes_back h1
        removed late
}

starts_nothing() {
        wherry host list | grep -q "$1 .*starts nothing"
}

error_says() {
        [[ $(instance_field "$1" .status.error) == *"$2"* ]]
}

story_a_host_without_libvirt_gets_no_guest() {
        local id epoch
        given kept h1
        given late h2
        wherry stop late --force >/dev/null
        daemon_dies h2 libvirtd
        soon "host list says so: $(wherry host list)" 20 starts_nothing h2
        refused "can start no guest" wherry run small --name no --host h2 --memory 128M --disk 512M
        # Placed there all the same, as by a planner whose list is old.
        id=$(id_of late) epoch=$(epoch_of late)
        edit_record instance "$id" placement "{\"host\": 2, \"epoch\": $epoch, \"fixed\": true}"
        edit_record instance "$id" wanted '"running"'
        soon "late waits, and says why: $(instance_field late .status)" 30 error_says late "its libvirt does not answer"
        no_qemu late
        edit_record instance "$id" placement "{\"host\": 2, \"epoch\": $epoch}"
        soon "late runs on another host: $(where late)" 60 elsewhere late h2
        happened start-handed-on late
        lab power-off h1 >/dev/null
        soon "kept runs on h3: $(where kept)" 30 runs_on kept h3
        daemon_starts h2 libvirtd
        comes_back h1
        soon "h2 takes guests again: $(wherry host list)" 30 not starts_nothing h2
        removed late kept
}

story_three_failed_starts_try_another_host() {
        given luck h1
        wherry stop luck --force >/dev/null
        lab exec h1 ip link set wherry0 name away0
        wherry start luck --no-wait >/dev/null
        soon "luck runs on another host: $(where luck)" 60 elsewhere luck h1
        lab exec h1 ip link set away0 name wherry0
        happened start-handed-on luck
        removed luck
}

# is_here HOST NAME START: what that host's hostd says about that start of it, as another asks who would lift its fence.
is_here() {
        curl --silent --show-error --fail -X POST -H "X-Auth-Token: $(cat "/run/wherry-lab/$1/cluster.token")" \
                "http://$(wherry host show "$1" --json | jq -r '.api | ltrimstr("http://")')/v1/ended" \
                -d "{\"instance\": \"$(id_of "$2")\", \"start\": \"$3\"}" | jq -c '[.here, (.boot, .view | length > 0)]'
}

story_hostd_stays_dead_its_guest_lives_on() {
        local old now start
        given web h1
        old=$(pid_on web h1)
        start=$(instance_field web .start.id)
        [[ $(is_here h1 web "$start") == '[true,true,true]' ]] || fail "its host does not see it"
        [[ $(is_here h2 web "$start") == '[false,true,true]' ]] || fail "another host sees it"
        daemon_dies h1 hostd
        soon "h1 is taken for dead" 20 host_is h1 dead
        if [ "$store" = dir ]; then
                # The fence is QEMU's own lock: nobody else's vCPU runs while the old QEMU has it.
                stays 4 not_elsewhere web h1 || fail "two run: $(where web)"
        else
                runs_after_loss web h1 30
                # The old QEMU still has its vCPUs, and no write of it gets through any more.
                ! process_gone "$old" || fail "the old QEMU has ended: nothing shows that its writes are refused"
        fi
        daemon_starts h1 hostd
        soon "the old QEMU is ended" 30 process_gone "$old"
        now=$(restarted web h1)
        [[ $(instance_field web '.receipts[-1] | "\(.from) h\(.to) \(.epoch)"') == "1 $now $(epoch_of web)" ]] || fail "no receipt"
        soon "all hosts up" 30 hosts_up
        stays 2 runs_on web "$now"
        [[ $(is_here h1 web "$start") == '[false,true,true]' ]] || fail "h1 does not say that it is gone"
        [[ $(is_here "$now" web "$(instance_field web .start.id)") == '[true,true,true]' ]] || fail "$now does not see it"
        [[ $now = h1 ]] || placed wherry migrate web h1 --timeout 120
}

# restarted NAME HOST: one new QEMU of it runs and the record says so. Prints where. While the old one lives, nobody
# can start it on a directory, and so the host that has come back may be the next one to try; elsewhere it ran before that.
restarted() {
        local name=$1 not_on=$2
        [[ $store != dir ]] || not_on=
        soon "$name runs: $(where "$name")" 60 eval 'runs_on "$name" "$(elsewhere "$name" "$not_on")"'
        elsewhere "$name" "$not_on"
}

not_elsewhere() {
        ! elsewhere "$1" "$2" >/dev/null
}

story_hostd_that_slept_finds_itself_passed() {
        local old hostd now
        given web h1
        old=$(pid_on web h1)
        hostd=$(lab status --json | jq '.hosts[] | select(.name == "h1") | .daemons.hostd')
        kill -STOP "$hostd"
        soon "h1 is taken for dead" 20 host_is h1 dead
        [ "$store" = dir ] || runs_after_loss web h1 30
        kill -CONT "$hostd"
        soon "the old QEMU is ended" 30 process_gone "$old"
        now=$(restarted web h1)
        soon "all hosts up" 30 hosts_up
        stays 2 runs_on web "$now"
        removed web
}

story_two_of_three_hosts_die_at_once() {
        given one h1
        given two h2
        lab power-off h1 >/dev/null &
        lab power-off h2 >/dev/null
        wait
        runs_after_loss one h1 30
        runs_after_loss two h2 30
        soon "both on h3" 30 eval "runs_on one h3 && runs_on two h3"
        comes_back h1 h2
        stays 2 eval "only_on one h3 && only_on two h3"
        removed one two
}

# has_memory HOST SIZE: that is what its hostd offers from now on; 0 for all there is.
has_memory() {
        sed -i -e '/^memory = /d' -e "s/^number = .*/&\nmemory = $2/" "/run/wherry-lab/$1/hostd.conf"
        lab stop "$1" hostd >/dev/null
        lab start "$1" hostd >/dev/null
}

story_room_for_one_goes_to_the_higher_priority() {
        given low h1 --priority 1
        given high h1 --priority 5
        # Each needs 128 MiB and what QEMU takes, 104.25 MiB.
        has_memory h2 300M
        has_memory h3 200M
        soon "all hosts up" 30 hosts_up
        lab power-off h1 >/dev/null
        runs_after_loss high h1 30
        soon "the record says so" 30 runs_on high h2
        soon "told why low does not run" 30 happened_now failover-failed low "no host has room"
        no_qemu low
        # Room appears: nobody has to ask for it.
        has_memory h3 400M
        soon "low runs, now that there is room: $(where low)" 30 runs_on low h3
        has_memory h2 0
        has_memory h3 0
        comes_back h1
        stays 2 eval "runs_on high h2 && runs_on low h3"
        removed low high
}

# blinded HOST OTHER: on a directory, HOST's reads of OTHER's heartbeat never return. seeing HOST OTHER: they do again.
blinded() {
        local beat=/var/tmp/wherry-lab/store/beats/${2#h}
        lab exec "$1" sh -c "mkfifo -m 600 /run/wherry/stuck-$2 && mount --bind /run/wherry/stuck-$2 '$beat'"
}

seeing() {
        local beat=/var/tmp/wherry-lab/store/beats/${2#h}
        # Whoever waits for a writer of the pipe gets one, and reads nothing.
        lab exec "$1" sh -c "umount --lazy '$beat' && : >/run/wherry/stuck-$2 && rm /run/wherry/stuck-$2"
}

blind_told() {
        [[ $(events | jq 'map(select(.kind == "host-blind")) | length') == "$1" ]]
}

hosts_say() {
        wherry host list | grep -q "$1"
}

# Each of h2's two watchers is stuck in a read of the other one's heartbeat.
story_a_stuck_heartbeat_hides_no_death_of_another() {
        [ "$store" = dir ] || return 0
        given web h2
        blinded h1 h3
        blinded h3 h1
        soon "h1 says that it cannot watch h3" 30 hosts_say "h1 cannot tell whether h3 lives"
        soon "h3 says that it cannot watch h1" 30 hosts_say "h3 cannot tell whether h1 lives"
        soon "both told" 10 blind_told 2
        lab power-off h2 >/dev/null
        runs_after_loss web h2 30
        seeing h1 h3
        blind_told 2 || fail "not told once each"
        seeing h3 h1
        soon "they see again" 30 not hosts_say "cannot tell whether"
        comes_back h2
        removed web
}

alive_are() {
        [[ $(wherry host list --json | jq -r '[.hosts[] | select(.alive) | .name] | join(" ")') == "$1" ]]
}

# imaged reads all heartbeats; one that is stuck makes no other host look dead.
story_a_stuck_heartbeat_makes_no_other_host_silent() {
        [ "$store" = dir ] || return 0
        soon "all are alive" 30 alive_are "h1 h2 h3"
        blinded ctl h2
        soon "h2 is not known to live" 20 alive_are "h1 h3"
        stays 6 alive_are "h1 h3" || fail "alive are: $(wherry host list)"
        seeing ctl h2
        soon "all are alive again" 20 alive_are "h1 h2 h3"
}

story_source_loses_power_in_the_middle_of_a_move() {
        given_linux web h1
        lab exec h1 virsh -q migrate-setspeed wherry-web 1
        placed wherry migrate web h2 --no-wait
        soon "the move is under way" 20 eval "lab exec h1 virsh -q domjobinfo wherry-web | grep Unbounded"
        soon "h2 has the guest, waiting" 30 qemu_pid h2 web
        lab power-off h1 >/dev/null
        runs_after_loss web h1 30
        soon "one runs: $(where web)" 30 eval 'runs_on web "$(elsewhere web h1)"'
        comes_back h1
        stays 2 eval 'runs_on web "$(elsewhere web h1)"'
        removed web
}
