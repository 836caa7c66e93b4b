# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# Who a host is: machines with the same name and number, and a second hostd on one machine.

# Three hosts; h3 is the machine that takes another one's name.

# h3_says NAME NUMBER: h3's own hostd ends, and the configuration in $conf gives that machine this name and number.
h3_says() {
        conf=/run/wherry-lab/h3/clone.conf
        lab stop h3 hostd >/dev/null
        sed -e "s/^name = .*/name = $1/; s/^number = .*/number = $2/" /run/wherry-lab/h3/hostd.conf >"$conf"
}

# h3_is_itself: the clone's hostd ends, h3's own starts.
h3_is_itself() {
        local pid
        ! pid=$(hostd_with "$conf" h3) || kill -KILL "$pid"
        soon "the clone has ended" 10 not hostd_with "$conf" h3
        daemon_starts h3 hostd
}

clone_starts() {
        lab exec h3 "$build/hostd/hostd" --config "$conf" >"$dir/clone.log" 2>&1 &
}

clone_is_refused() {
        local said
        said=$(lab exec h3 timeout 30 "$build/hostd/hostd" --config "$conf" 2>&1) && fail "it runs"
        [[ $said == *"$1"* ]] || fail "it says: $said"
}

# hostd_with CONF HOST: the pid of the hostd there that has this configuration.
hostd_with() {
        local pid
        for pid in $(ip netns pids "wl-$2"); do
                [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") == *"/hostd --config $1 "* && $(cat "/proc/$pid/comm") == hostd ]] || continue
                echo "$pid"
                return
        done
        return 1
}

host_epoch() {
        wherry host show "$1" --json | jq .epoch
}

story_a_clone_of_a_living_host_is_refused() {
        local conf number before epoch
        given web h1
        epoch=$(host_epoch h1)
        before=$(took_over)
        for number in 1 0; do
                h3_says h1 "$number"
                clone_is_refused "two machines are host h1, number 1: the one at "
        done
        h3_says h4 1
        clone_is_refused "host number 1 belongs to host h1 already"
        [[ $(host_epoch h1) == "$epoch" ]] || fail "it joined"
        [[ $(took_over) == "$before" ]] || fail "somebody was taken over"
        runs_on web h1
        h3_is_itself
        soon "all hosts up" 30 hosts_up
}

# It is started again and again, as by systemd.
story_a_refused_clone_hides_no_death() {
        local conf loop
        given web h1
        h3_says h1 1
        while :; do
                lab exec h3 timeout 30 "$build/hostd/hostd" --config "$conf" || sleep 0.2
        done >"$dir/clone.log" 2>&1 &
        loop=$!
        soon "the clone was refused" 20 grep -q "two machines are host h1" "$dir/clone.log"
        lab power-off h1 >/dev/null
        # h2 takes h1 over after 2 s, the clone takes its number after 3 s.
        soon "web runs on h2: $(where web)" 30 only_on web h2
        soon "a dead host's number goes to a machine of its name" 30 grep -q "joined as number 1" "$dir/clone.log"
        kill "$loop"
        # The machine whose number that was comes back, and is refused: so the lab calls it off again.
        ! lab power-on h1 >/dev/null 2>&1 || fail "h1 came up beside its clone"
        grep -q "two machines are host h1, number 1: the one at " /var/tmp/wherry-lab/h1/log/hostd.log || fail "it was not refused"
        h3_is_itself
        lab power-on h1 >/dev/null
        soon "all hosts up" 40 hosts_up
        runs_soon web h2
        removed web
}

story_a_second_hostd_of_one_machine_takes_its_place() {
        local pid conf=/run/wherry-lab/h1/second.conf second
        given web h1
        pid=$(pid_on web h1)
        sed -e "s/^\(listen = .*\):.*/\1:7071/; s|^gate_socket = .*|gate_socket = /run/wherry/second.sock|" /run/wherry-lab/h1/hostd.conf >"$conf"
        lab exec h1 "$build/hostd/hostd" --config "$conf" >"$dir/second.log" 2>&1 &
        soon "the first one has ended" 20 not hostd_with /run/wherry-lab/h1/hostd.conf h1
        grep -q "a newer hostd of this machine" /var/tmp/wherry-lab/h1/log/hostd.log || fail "it does not say why"
        stays 3 only_on web h1
        second=$(hostd_with "$conf" h1) || fail "the second one has ended, too: $(cat "$dir/second.log")"
        kill "$second"
        soon "the second one has ended" 20 not hostd_with "$conf" h1
        daemon_starts h1 hostd
        soon "all hosts up" 30 hosts_up
        stays 3 only_on web h1
        [[ $(pid_on web h1) == "$pid" ]] || fail "the guest is another QEMU"
        removed web
}

# The machine that wakes up finds its number in other hands: it ends what it ran, and does not join.
story_a_replaced_host_ends_its_guests() {
        local conf hostd old
        given web h1
        old=$(pid_on web h1)
        hostd=$(hostd_with /run/wherry-lab/h1/hostd.conf h1)
        h3_says h1 1
        # In maintenance nobody takes h1 over, so the clone finds its guests under its own number.
        wherry host maintenance h1 on >/dev/null
        kill -STOP "$hostd"
        clone_starts
        soon "the clone has joined as h1" 30 grep -q "joined as number 1" "$dir/clone.log"
        # In a directory the old QEMU holds the disk's lock for as long as it lives.
        [ "$store" = dir ] || soon "the clone starts web: $(where web)" 60 grep -q "instance-started" "$dir/clone.log"
        kill -CONT "$hostd"
        soon "its guest has ended: $(where web)" 30 process_gone "$old"
        [ "$store" = dir ] || soon "only the clone's runs: $(where web)" 30 only_on web h3
        soon "the old h1's hostd has ended" 30 not hostd_with /run/wherry-lab/h1/hostd.conf h1
        grep -q "another machine, at .*, has joined as number 1" /var/tmp/wherry-lab/h1/log/hostd.log || fail "it does not say why"
        wherry host maintenance h1 off >/dev/null
        wherry rm web --no-wait >/dev/null
        soon "web is gone: $(where web)" 60 no_qemu web
        h3_is_itself
        daemon_starts h1 hostd
        soon "all hosts up" 40 hosts_up
}
