# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# Who answers to a guest's address, seen from the LAN. On nfs and rbd: a directory has no cable.
#
# A Linux takes long to boot, so the next story goes on with the guests of the one before: `lone` on h1, `web` on h2.

# arp_answers ADDRESS: how many machines answer one ARP request; they may have the same MAC.
arp_answers() {
        python3 - "$1" <<'END'
import select, socket, sys, time
lan = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
lan.bind(("wl-lan", 0x0806))
mac, wanted = lan.getsockname()[4], socket.inet_aton(sys.argv[1])
lan.send(b"\xff" * 6 + mac + b"\x08\x06\0\1\x08\0\6\4\0\1" + mac + socket.inet_aton("10.77.0.1") + b"\0" * 6 + wanted)
end, answers = time.monotonic() + 1, 0
while (left := end - time.monotonic()) > 0:
        if select.select([lan], [], [], left)[0]:
                frame = lan.recv(64)
                answers += frame[20:22] == b"\0\2" and frame[28:32] == wanted
print(answers)
END
}

answers_once() {
        [[ $(arp_answers "$1") == 1 ]]
}

never_two() {
        [[ $(arp_answers "$1") == [01] ]]
}

# pings ADDRESS: one echo request is answered within a second.
pings() {
        python3 - "$1" <<'END'
import select, socket, sys, time
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.sendto(b"\x08\0\xa8\x73\x4f\x8c\0\0", (sys.argv[1], 0))
end = time.monotonic() + 1
while (left := end - time.monotonic()) > 0:
        if select.select([raw], [], [], left)[0]:
                packet, source = raw.recvfrom(100)
                if source[0] == sys.argv[1] and packet[20] == 0 and packet[24:26] == b"\x4f\x8c":
                        sys.exit(0)
sys.exit(1)
END
}

# tap_flags HOST NAME: of its tap, in hex; "gone" where there is none.
tap_flags() {
        local id
        id=$(id_of "$2")
        lab exec "$1" cat "/sys/class/net/wh${id:0:8}${id:9:4}/flags" 2>/dev/null || echo gone
}

tap_is_down() {
        local flags
        flags=$(tap_flags "$@")
        [[ $flags == 0x* ]] && (((flags & 1) == 0))
}

story_one_host_answers_for_a_guest_that_was_taken_over() {
        local address old
        given_linux web h1
        address=$(instance_address web)
        soon "ssh" 180 guest_answers "$address"
        answers_once "$address" || fail "before: $(arp_answers "$address") answer"
        old=$(pid_on web h1)
        lab cut h1 storage >/dev/null
        soon "it runs on h2" 30 eval 'qemu_runs "$(qemu_pid h2 web)"'
        ! process_gone "$old" || fail "the old QEMU ended while its cable was out: nothing to prove"
        soon "the old guest is cut off" 10 tap_is_down h1 web
        soon "ssh" 180 eval 'never_two "$address" && guest_answers "$address"'
        stays 3 answers_once "$address"
        ! process_gone "$old" || fail "the old QEMU ended too early: nothing to prove"
        lab heal h1 storage >/dev/null
        until process_gone "$old"; do
                pings "$address" || fail "not reached while the old host returns"
                never_two "$address" || fail "two answer while the old host returns"
        done
        stays 3 answers_once "$address"
        soon "h1 has joined again" 60 hosts_up
        runs_soon web h2
}

story_an_isolated_host_that_nobody_took_over_opens_again() {
        local address pid changes
        given_linux lone h1
        address=$(instance_address lone)
        soon "ssh" 180 guest_answers "$address"
        pid=$(where lone) changes=$(guest_on "$address" 'cat /sys/class/net/eth0/carrier_changes')
        wherry host maintenance h1 on >/dev/null
        sleep 3 # the watchers list the hosts every two seconds
        lab cut h1 storage >/dev/null
        soon "its guest is cut off" 20 not pings "$address"
        tap_is_down h1 lone || fail "not reached, and the tap is up: $(tap_flags h1 lone)"
        daemon_dies h1 hostd
        stays 3 not pings "$address"
        lab heal h1 storage >/dev/null
        daemon_starts h1 hostd
        soon "it is reached again" 60 pings "$address"
        wherry host maintenance h1 off >/dev/null
        [[ $(where lone) == "$pid" ]] || fail "not the same QEMU: $(where lone), was $pid"
        [[ $(guest_on "$address" 'cat /sys/class/net/eth0/carrier_changes') == "$changes" ]] ||
                fail "the guest saw its link go"
        soon "all hosts up" 60 hosts_up
}

story_nobody_is_cut_off_while_the_store_is_away_for_everybody() {
        local address other pids dead
        given_linux lone h1
        given_linux web h2
        address=$(instance_address lone) other=$(instance_address web)
        soon "ssh" 180 guest_answers "$address"
        soon "ssh" 180 guest_answers "$other"
        pids="$(where lone) $(where web)" dead=$(took_over)
        lab power-off store >/dev/null
        stays "${WHS_AWAY_SECONDS:-20}" eval 'pings "$address" && pings "$other"' || fail "a guest was cut off"
        lab power-on store >/dev/null
        stays 5 eval 'pings "$address" && pings "$other"' || fail "a guest was cut off afterwards"
        soon "all hosts up" 60 hosts_up
        [[ "$(where lone) $(where web)" == "$pids" && $(took_over) == "$dead" ]] ||
                fail "not the same QEMUs: $(where lone) $(where web), were $pids; $(took_over) hosts taken for dead"
}

# The lab's hosts talk over the same cable, so that the guest cannot leave alive.
story_a_host_whose_uplink_is_dead_hands_its_guests_on() {
        local address dead
        given_linux lone h1
        address=$(instance_address lone)
        soon "ssh" 180 guest_answers "$address"
        dead=$(took_over)
        lab cut h1 network >/dev/null
        soon "it runs on h2" 120 runs_on lone h2
        soon "ssh" 180 guest_answers "$address"
        answers_once "$address" || fail "$(arp_answers "$address") answer"
        [[ $(took_over) == "$dead" ]] || fail "a host was taken for dead: its storage works"
        refused "no network for guests" wherry run small --name no --host h1 --memory 128M --disk 512M --json
        lab heal h1 network >/dev/null
        soon "h1 gets guests again" 60 has_network h1
        [[ $(instance_field lone .wanted) == running ]] || fail "its user wanted it to run"
        ! wherry show web >/dev/null 2>&1 || removed web
        removed lone
}

story_a_guest_that_was_taken_over_ends_without_libvirtd() {
        local old
        given web h1
        old=$(pid_on web h1)
        lab cut h1 storage >/dev/null
        soon "it runs on h2" 30 eval 'qemu_runs "$(qemu_pid h2 web)"'
        ! process_gone "$old" || fail "the old QEMU ended while its cable was out: nothing to prove"
        daemon_dies h1 libvirtd
        lab heal h1 storage >/dev/null
        soon "the old QEMU is ended" 60 process_gone "$old"
        daemon_starts h1 libvirtd
        soon "h1 has joined again" 60 hosts_up
        runs_soon web h2
        removed web
}

story_an_address_is_held_while_its_old_guest_may_live() {
        local address old
        given web h1
        address=$(instance_address web)
        old=$(pid_on web h1)
        lab cut h1 storage >/dev/null
        soon "it runs on h2" 30 eval 'qemu_runs "$(qemu_pid h2 web)"'
        wherry rm web --no-wait --json >/dev/null
        soon "web is forgotten" 60 not wherry show web --json
        ! process_gone "$old" || fail "the old QEMU ended while its cable was out: nothing to prove"
        given next h2
        [[ $(instance_address next) != "$address" ]] || fail "a new instance has the address of a guest that lives"
        lab heal h1 storage >/dev/null
        soon "the old QEMU is ended" 60 process_gone "$old"
        soon "h1 has joined again" 60 hosts_up
        removed next
}
