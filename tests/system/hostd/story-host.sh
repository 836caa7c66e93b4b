# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# hostd, libvirtd and guests end, start, and are asked for things.

story_killed_hostd_adopts_its_guest() {
        local pid epoch
        given web h1
        pid=$(pid_on web h1) epoch=$(epoch_of web)
        daemon_dies h1 hostd
        daemon_starts h1 hostd
        soon "both hosts up" 30 hosts_up
        stays 3 only_on web h1 || fail "it runs elsewhere: $(where web)"
        [[ $(pid_on web h1) == "$pid" && $(epoch_of web) == "$epoch" ]] || fail "it is another QEMU: $(where web), was $pid"
        # The one adopted is this hostd's to end.
        wherry stop web --force >/dev/null
        no_qemu web
        wherry start web >/dev/null
        runs_soon web h1
}

story_orderly_stop_and_start_of_hostd_is_no_death() {
        local pid
        given web h1
        pid=$(pid_on web h1)
        lab stop h1 hostd >/dev/null
        soon "h1 is stopped" 30 host_is h1 stopped
        stays 5 only_on web h1 || fail "it runs elsewhere: $(where web)"
        lab start h1 hostd >/dev/null
        soon "both hosts up" 30 hosts_up
        stays 3 only_on web h1 || fail "it runs elsewhere: $(where web)"
        [[ $(pid_on web h1) == "$pid" ]]
}

story_a_second_hostd_ends_before_it_joins() {
        local epoch said
        given web h1
        epoch=$(wherry host show h1 --json | jq .epoch)
        said=$(lab exec h1 timeout 20 "$build/hostd/hostd" --config /run/wherry-lab/h1/hostd.conf 2>&1) && fail "it runs"
        [[ $said == *"listen on"*"in use"* ]] || fail "it says: $said"
        [[ $(wherry host show h1 --json | jq .epoch) == "$epoch" ]] || fail "it joined"
        runs_on web h1
}

story_libvirtd_dies_under_a_guest() {
        local pid
        given web h1
        pid=$(pid_on web h1)
        daemon_dies h1 libvirtd
        stays 1 only_on web h1
        daemon_starts h1 libvirtd
        # A stop that is carried out is the proof that hostd and libvirt know the guest again.
        stays 3 only_on web h1
        [[ $(pid_on web h1) == "$pid" ]] || fail "it is another QEMU: $(where web), was $pid"
        soon "both hosts up" 30 hosts_up # until then a start would go elsewhere
        wherry stop web --force --timeout 90 >/dev/null
        no_qemu web
        wherry start web --timeout 90 >/dev/null
        runs_soon web h1
}

# back_after NAME HOST PID: the seconds until another QEMU of it runs there.
back_after() {
        local began=$EPOCHREALTIME
        until only_on "$1" "$2" && [[ $(pid_on "$1" "$2") != "$3" ]]; do
                awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { exit b - a > 40 }' || fail "not started again: $(where "$1")"
                sleep 0.05
        done
        awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%d", (b - a) * 1000 }'
}

story_killed_qemu_is_started_again_with_back_off() {
        local pid first third epoch
        given web h1
        epoch=$(epoch_of web) pid=$(pid_on web h1)
        kill -KILL "$pid"
        first=$(back_after web h1 "$pid")
        pid=$(pid_on web h1)
        kill -KILL "$pid"
        back_after web h1 "$pid" >/dev/null
        pid=$(pid_on web h1)
        kill -KILL "$pid"
        third=$(back_after web h1 "$pid")
        # 1 s, 2 s, 4 s: how much longer it takes is up to the machine.
        ((first >= 900 && third >= 3800)) || fail "the third start after $third ms, the first after $first ms: no back-off"
        soon "the record says so" 30 runs_on web h1
        (($(epoch_of web) > epoch))
}

# restarting NAME REASON: its record says so, which start it will be, and when.
restarting() {
        [[ $(instance_field "$1" '.status | "\(.state): \(.reason), \(.tries > 0) \(.next != null)"') == "restarting: $2, true true" ]]
}

story_a_guest_that_dies_again_and_again_is_shown_as_restarting() {
        local pid
        given frail h2
        for _ in 1 2; do
                pid=$(pid_on frail h2)
                kill -KILL "$pid"
                back_after frail h2 "$pid" >/dev/null
        done
        kill -KILL "$(pid_on frail h2)" # the next start comes in 4 s
        soon "the record says restarting: $(instance_field frail .status)" 10 restarting frail "its QEMU crashed or was killed"
        wherry ls | grep -q restarting || fail "ls does not say so: $(wherry ls)"
        wherry show frail | grep -qE "next try: *start [1-9] (in [1-9] s|at any moment)" || fail "show does not say when: $(wherry show frail)"
        happened instance-crashed frail
        runs_soon frail h2
        removed frail
}

# libvirt learns of a panic by the device that the guest's kernel writes to; here the monitor writes.
story_a_kernel_that_panicked_is_restarted() {
        local pid
        given panics h2
        pid=$(pid_on panics h2)
        lab exec h2 virsh -q qemu-monitor-command wherry-panics --hmp 'o /b 0x505 1'
        back_after panics h2 "$pid" >/dev/null
        runs_soon panics h2
        happened instance-crashed panics "its kernel panicked"
        removed panics
}

story_a_suspended_guest_is_shown_and_not_migrated() {
        local pid epoch
        given web h1
        pid=$(pid_on web h1) epoch=$(epoch_of web)
        lab exec h1 virsh -q suspend wherry-web
        soon "the record says so: $(instance_field web .status)" 10 eval \
                '[[ $(instance_field web ".status | .state + \": \" + .reason") == "paused: suspended on its host" ]]'
        wherry ls | grep -q "paused: suspended on its host" || fail "ls does not say so: $(wherry ls)"
        happened instance-paused web
        refused "suspended on its host" timeout 20 "$build/imaged/cli/wherry" migrate web h2
        daemon_dies h1 hostd
        daemon_starts h1 hostd
        soon "both hosts up" 30 hosts_up
        soon "the next hostd knows it" 30 lab exec h1 virsh -q resume wherry-web
        soon "it runs: $(instance_field web .status)" 20 state_is web running
        [[ "$(where web) $(epoch_of web)" == "h1:$pid $epoch" ]] || fail "another QEMU: $(where web), was $pid"
        # It hears no power button: a stop does not wait a minute for that.
        lab exec h1 virsh -q suspend wherry-web
        timeout 30 "$build/imaged/cli/wherry" stop web >/dev/null || fail "not stopped: $(instance_field web .status)"
        no_qemu web || fail "stopped, and there is a QEMU: $(where web)"
        wherry start web >/dev/null
        runs_soon web h1
}

story_the_fence_is_tried_when_asked_for() {
        local said before
        before=$(host_fence h1 .at)
        [[ $(host_fence h1 .ok) == true && $(host_fence h1 .text) == *holds* ]] || fail "at start: $(host_fence h1 .)"
        said=$(curl --silent --show-error --fail -X POST -H "X-Auth-Token: $(cat /run/wherry-lab/h1/cluster.token)" \
                "http://$(wherry host show h1 --json | jq -r '.api | ltrimstr("http://")')/v1/store-check" -d '{}')
        [[ $(jq .ok <<<"$said") == true && $(jq -r .text <<<"$said") == *holds* ]] || fail "it says: $said"
        soon "the record says when" 30 eval '[[ $(host_fence h1 .at) > '"$before"' ]]'
}

host_fence() {
        wherry host show "$1" --json | jq -r ".fence | $2"
}

story_virsh_destroy_is_a_crash_and_create_of_the_old_is_refused() {
        local xml=$dir/own.xml said pid
        given own h2
        pid=$(pid_on own h2)
        lab exec h2 virsh -q dumpxml --security-info wherry-own >"$xml"
        # With hostd away nobody answers the driver, and that is a no.
        daemon_dies h2 hostd
        lab exec h2 virsh -q destroy wherry-own
        said=$(lab exec h2 virsh create /dev/stdin <"$xml" 2>&1) && fail "created without hostd: $said"
        [[ $said == *wherry:* ]] || fail "refused by somebody else: $said"
        no_qemu own
        daemon_starts h2 hostd
        soon "hostd starts it" 20 only_on own h2
        [[ $(pid_on own h2) != "$pid" ]]
        soon "the record says so" 30 runs_on own h2
        # hostd being there, it is a crash as well: nobody's wish that it stays off.
        pid=$(pid_on own h2)
        lab exec h2 virsh -q destroy wherry-own
        soon "hostd starts it again" 20 only_on own h2
        [[ $(pid_on own h2) != "$pid" ]]
        soon "the record says so" 30 runs_on own h2
        lab exec h2 virsh -q dumpxml --security-info wherry-own >"$xml"
        # The domain is there, so libvirt itself would refuse a second: under another name, id and tap it is a copied lease.
        sed -e 's/wherry-own/other/' -e "s/<target dev='wh[0-9a-f]*'/<target dev='copied'/" -e 's/<uuid>[^<]*/<uuid>11111111-2222-4333-8444-555555555555/' "$xml" >"$xml.other"
        said=$(lab exec h2 virsh create /dev/stdin <"$xml.other" 2>&1) && fail "a copied lease was accepted: $said"
        [[ $said == *wherry:* ]] || fail "refused by somebody else: $said"
        soon "it runs on h2: $(where own)" 30 only_on own h2
}

story_xml_of_the_running_guest_is_refused_elsewhere() {
        local xml=$dir/web.xml said epoch
        given web h1
        epoch=$(epoch_of web)
        lab exec h1 virsh -q dumpxml --security-info wherry-web >"$xml"
        said=$(lab exec h2 virsh create /dev/stdin <"$xml" 2>&1) && fail "h2 runs it, too: $said"
        [[ $said == *wherry:* ]] || fail "refused by somebody else: $said"
        stays 1 only_on web h1
        lab exec h2 virsh define /dev/stdin <"$xml" >/dev/null
        said=$(lab exec h2 virsh start wherry-web 2>&1) && fail "h2 runs it, too: $said"
        lab exec h2 virsh undefine wherry-web >/dev/null
        [[ $said == *wherry:* ]] || fail "refused by somebody else: $said"
        stays 1 only_on web h1
        [[ $(epoch_of web) == "$epoch" ]]
        happened gate-refused web
}

# traces ID: of that instance, in the store's files (dir and nfs) and on the hosts.
traces() {
        local n
        [ "$store" = rbd ] || find /var/tmp/wherry-lab/store -path '*/records/*' -prune -o -name "*$1*" -print
        for ((n = 1; n <= hosts; n++)); do
                lab exec "h$n" find /run/wherry -name "*$1*"
        done
}

story_remove_while_it_runs_leaves_nothing() {
        local id address start links
        given web h1
        given own h2
        id=$(id_of own) address=$(instance_address own) start=$(instance_field own .start.id)
        [ -n "$(traces "$id")" ] || fail "the search for traces finds nothing of a running guest"
        placed wherry migrate own h1 --timeout 120
        placed wherry migrate own h2 --timeout 120
        removed own
        soon "no trace of $id: $(traces "$id")" 5 eval "[ -z \"\$(traces $id)\" ]"
        [ -z "$(traces "$start")" ]
        [ "$store" != dir ] || {
                links=$(find /var/tmp/wherry-lab/store/starts -mindepth 2 | grep -vc "$(instance_field web .start.id)" || :)
                [ "$links" = 0 ] || fail "starts/: $(find /var/tmp/wherry-lab/store/starts -mindepth 2)"
        }
        soon "imaged has forgotten it" 30 not wherry show own
        given next h2
        [[ $(instance_address next) == "$address" ]] || fail "the address $address is not free: $(instance_address next)"
        removed next
}

# greets COMMAND...: run so on h1, a client of web's screen hears VNC's greeting.
greets() {
        local socket
        socket=$(lab exec h1 virsh -q dumpxml wherry-web | sed -n "s/.*type='socket' socket='\([^']*\)'.*/\1/p")
        [ -n "$socket" ] || fail "its screen has no socket"
        [[ $(lab exec h1 "$@" timeout 5 socat -u "UNIX-CONNECT:$socket" - </dev/null | head -c 3 || :) == RFB ]]
}

story_no_other_user_of_the_host_reaches_a_guests_screen() {
        local ports
        given web h1
        ports=$(ip netns exec wl-h1 ss -Hltnp | grep qemu || :)
        [ -z "$ports" ] || fail "its QEMU listens: $ports"
        greets env || fail "nor does root, whom hostd runs as"
        refused "Permission denied" greets setpriv --reuid nobody --regid nogroup --clear-groups
}

# A QEMU that hangs hears nothing, neither the guest nor libvirt's monitor.
story_force_stop_needs_no_guest() {
        given web h1
        kill -STOP "$(pid_on web h1)"
        wherry stop web --force --timeout 90 >/dev/null
        no_qemu web
        state_is web stopped
        stays 2 no_qemu web
        removed web
}

story_hostd_killed_at_any_moment_of_a_start() {
        local round
        given victim h1
        for round in $(seq 10); do
                wherry stop victim --force >/dev/null
                wherry start victim --no-wait >/dev/null
                sleep "0.$(printf %03d $((RANDOM % 700)))"
                daemon_dies h1 hostd
                daemon_starts h1 hostd
                # A hostd that a busy machine keeps away for 2 s is dead to the other host, rightly.
                soon "round $round: it runs on one host alone" 20 runs_alone victim
                runs_on victim h1 || placed wherry migrate victim h1 --timeout 120
                runs_soon victim h1
        done
        stays 2 runs_on victim h1
        removed victim
}
