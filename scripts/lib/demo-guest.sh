# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # dir and TOP are the demo's
#
# What the demo sees of an instance: through the wherry command, through ssh, and past our own software through /proc and virsh.

writer_pid=

wherry() {
        "$TOP/build/imaged/cli/wherry" "$@"
}

# The demo's own terminal (descriptors 3 and 4) stays with the demo: daemons that outlive it must not hold it open.
lab() {
        "$TOP/scripts/lab" "$@" 3>&- 4>&-
}

hosts_alive() {
        [[ $(wherry host list --json | jq '[.. | objects | select(.alive? == true)] | length') == "$1" ]]
}

# instance_field NAME FILTER: a member of its record.
instance_field() {
        wherry show "$1" --json | jq -r "$2"
}

instance_address() {
        instance_field "$1" .network.address
}

# The name of the host that the record names.
instance_host() {
        echo "h$(instance_field "$1" .status.host)"
}

# qemu_pid HOST NAME: the guest's QEMU among that host's processes, as the kernel shows them; 1 when there is none.
qemu_pid() {
        local pid
        for pid in $(ip netns pids "wl-$1" 2>/dev/null); do
                if [[ $(tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline") == *"guest=wherry-$2"[$',\n']* ]]; then
                        echo "$pid"
                        return
                fi
        done
        return 1
}

# qemu_runs PID: its first vCPU has been given time by the scheduler; a QEMU that waits for the gate has a vCPU that sleeps.
# Here and below the file is read by a command: it may vanish, and bash would take a redirection that fails for the end of the script.
qemu_runs() {
        # After the name in brackets: user time is field 12.
        { cat "/proc/$1/task"/*/stat 2>/dev/null || :; } | awk '/\(CPU 0\// { sub(/.*\) /, ""); ran = $12 > 0 } END { exit !ran }'
}

# process_gone PID: it has ended; a zombie has too.
process_gone() {
        local stat
        stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
        stat=${stat##*) }
        [[ ${stat:0:1} == [ZX] ]]
}

# guest_on ADDRESS COMMAND: as root, with the demo's key. A host key that has changed is an error: it would be another guest.
# An emulated guest on a busy machine may not greet a new session in time: three tries.
guest_on() {
        local status
        for _ in 1 2 3; do
                status=0
                guest_ssh 20 "$@" || status=$?
                [[ $status = 255 ]] || break # of ssh itself; else the command's
        done
        return $status
}

# guest_ssh CONNECT_SECONDS ADDRESS COMMAND
guest_ssh() {
        local connect=$1 address=$2
        shift 2
        ssh -q -i "$dir/key" -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new \
                -o UserKnownHostsFile="$dir/known-hosts" -o ConnectTimeout="$connect" -o ServerAliveInterval=2 -o ServerAliveCountMax=15 \
                "root@$address" "$@"
}

guest_answers() {
        guest_ssh 2 "$1" true
}

# writer_start ADDRESS: a writer in the guest; $dir/acked gets a line "TIME NUMBER" for each record that its disk acknowledged.
# ssh itself is our child, not a shell around it: its end ends the writing.
writer_start() {
        : >"$dir/acked"
        exec 7> >(while read -r number; do echo "$EPOCHREALTIME $number" >>"$dir/acked"; done)
        ssh -q -i "$dir/key" -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new \
                -o UserKnownHostsFile="$dir/known-hosts" -o ConnectTimeout=20 -o ServerAliveInterval=2 -o ServerAliveCountMax=15 \
                "root@$1" 'fsync-writer /root/log --rate 50' >&7 2>/dev/null </dev/null &
        writer_pid=$!
        exec 7>&-
}

writer_stop() {
        [[ -n $writer_pid ]] || return 0
        kill "$writer_pid" 2>/dev/null || :
        wait "$writer_pid" 2>/dev/null || :
        writer_pid=
}

writer_lives() {
        [[ -n $writer_pid ]] && kill -0 "$writer_pid" 2>/dev/null
}

# The last number that was acknowledged; the last line may still be half written.
acked_last() {
        awk 'NF == 2 { n = $2 } END { print n + 0 }' "$dir/acked"
}

acked_beyond() {
        (($(acked_last) > $1))
}

# The longest time in ms without an acknowledgement, from line $1 on.
acked_gap_ms() {
        awk -v from="$1" 'NR >= from && NF == 2 { if (last && $1 - last > gap) gap = $1 - last; last = $1 } END { printf "%d", gap * 1000 }' \
                "$dir/acked"
}

# log_check ADDRESS ACKED: every record up to the acknowledged one is on the guest's disk, whole; sets `verified`.
log_check() {
        verified=$(guest_on "$1" 'fsync-writer --verify /root/log') || fail "the guest's log has gaps: $verified"
        [[ $verified =~ highest=([0-9]+) ]] || fail "the guest's log cannot be read: $verified"
        ((BASH_REMATCH[1] >= $2)) || fail "write $2 was acknowledged and is lost: $verified"
        verified=${BASH_REMATCH[1]}
}
