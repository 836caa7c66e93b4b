# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
#
# What the lab's stories are told with: a check prints one line and counts; a story goes on after a failed one.

passed=0 failed=0

# check WHAT COMMAND...: it succeeds.
check() {
        local what=$1 output status=0
        shift
        output=$("$@" 2>&1) || status=$?
        if [ $status = 0 ]; then
                passed=$((passed + 1))
                printf '  ok    %s\n' "$what"
        else
                failed=$((failed + 1))
                printf '  FAIL  %s (status %d)\n' "$what" "$status"
                printf '%s\n' "$output" | tail -n 30 | sed 's/^/        /'
        fi
}

# says STATUS TEXT COMMAND...: it ends with that status and says TEXT (a basic regular expression).
says() {
        local want=$1 text=$2 output status=0
        shift 2
        output=$("$@" 2>&1) || status=$?
        printf '%s\n' "status $status: $output"
        [ "$status" = "$want" ] && grep -q -- "$text" <<<"$output"
}

not() {
        ! "$@"
}

# within SECONDS COMMAND...: it succeeds before the time is over.
within() {
        local end=$((SECONDS + $1 + 1))
        shift
        until "$@"; do
                [ "$SECONDS" -lt "$end" ] || return 1
                sleep 0.05
        done
}

# quick SECONDS COMMAND...: it succeeds and took no longer.
quick() {
        local most=$1 began=$EPOCHREALTIME
        shift
        "$@" && awk -v a="$began" -v b="$EPOCHREALTIME" -v m="$most" 'BEGIN { printf "took %.2f s of %s\n", b - a, m; exit b - a > m }'
}

# Everything in the kernel and on disk that is the lab's, by name.
traces() {
        ip netns list 2>/dev/null | grep -E '^wl-' || :
        ip -o link show | grep -o ' wl-[^:@]*' || :
        grep -E 'wherry-lab|netns/wl-|wherry-run|wherry-big' /proc/self/mountinfo || :
        ls -d /run/wherry-lab /var/tmp/wherry-lab 2>/dev/null || :
        ip -4 route show root 10.77.0.0/16
        # A process that only looks, such as this test, is nobody's trace.
        # shellcheck disable=SC2009
        ps -eo pid,args | grep -E 'wherry-lab|scripts/lib/(lab-init|nfs-server|ceph-server)' | grep -vE 'grep|tests/system/lab' || :
}

# namespaces: those in which the lab's processes are, as "net:[123]"; recorded while it is up.
namespaces() {
        local ns pid
        for ns in $(ip netns list 2>/dev/null | grep -oE '^wl-[a-z0-9]+'); do
                echo "net:[$(stat -L -c %i "/run/netns/$ns")]"
                for pid in $(ip netns pids "$ns"); do
                        readlink "/proc/$pid/ns/"{pid,mnt,uts} 2>/dev/null || :
                done
        done | sort -u | grep -vxF "$(readlink /proc/self/ns/{pid,mnt,uts,net})" || :
}

# inhabitants NAMESPACES: processes that are in one of them.
inhabitants() {
        local pid
        [ -n "$1" ] || return 0
        for pid in /proc/[0-9]*; do
                # grep -c and not -q, which would end before readlink does, and so turn a yes into a no under pipefail.
                if readlink "$pid"/ns/{net,pid,mnt,uts} 2>/dev/null | grep -cxF "$1" >/dev/null; then
                        echo "${pid#/proc/} $(tr '\0' ' ' <"$pid/cmdline" 2>/dev/null)"
                fi
        done
}

nothing_left() {
        local left
        left=$(traces; inhabitants "${seen_namespaces-}")
        echo "$left"
        [ -z "$left" ]
}

# tcp ADDRESS PORT: somebody accepts there; tcp_from NODE ADDRESS PORT: as seen from that node.
tcp() {
        timeout 1 bash -c "exec 3<>/dev/tcp/$1/$2"
}

tcp_from() {
        lab exec "$1" timeout 1 bash -c "exec 3<>/dev/tcp/$2/$3"
}
