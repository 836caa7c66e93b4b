# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Power: nodes go on, off, and away. From the outside; lib/lab-init is the inside.

LAB_BOOT_SECONDS=60

# What a daemon gets from the caller's environment: nothing but a sanitizer's options.
node_environment() {
        env -0 | grep -z '^[A-Z]*SAN_OPTIONS=' | tr '\0' '\n' || :
        printf '%s\n' PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
                "LAB_STORE=$LAB_STORE" "LAB_HOSTS=$LAB_HOSTS" "LAB_BUILD=$LAB_BUILD" "LAB_BARE=$LAB_BARE"
}

# close_inherited: what is above fd 3 is our locks, our caller's pipes...: a daemon would hold them for ever.
close_inherited() {
        local fd
        for fd in /proc/"$BASHPID"/fd/*; do
                fd=${fd##*/}
                [ "$fd" -le 3 ] || eval "exec $fd>&-"
        done
}

# nodes_on NODE...: plugs them in and boots them side by side; fails with a message when one does not come up.
nodes_on() {
        local node pipe environment said
        declare -A answer=()
        mapfile -t environment < <(node_environment)
        for node in "$@"; do
                node_plug "$node"
                # A pipe a node: the line it says, or its end when the node died without a word.
                exec {pipe}< <(
                        exec 3>&1 >>"$LAB_BIG/$node/log/boot.log" 2>&1 </dev/null
                        close_inherited
                        cd /
                        exec setsid env -i "${environment[@]}" nsenter --net="/run/netns/wl-$node" \
                                unshare --mount --uts --pid --fork --propagation private "$LAB_LIB/lab-init" "$node"
                )
                answer[$node]=$pipe
        done
        for node in "$@"; do
                said=
                pipe=${answer[$node]}
                read -r -t "$LAB_BOOT_SECONDS" -u "$pipe" said || :
                exec {pipe}<&-
                if [ "$said" != ready ]; then
                        node_complain "$node" "$said"
                        return 1
                fi
        done
}

# node_complain NODE DAEMON: why a node is not up, from its own logs.
node_complain() {
        local log=$LAB_BIG/$1/log/${2:-boot}.log
        printf 'lab: %s did not come up%s; the end of its log %s:\n' "$1" "${2:+: $2 failed}" "$log" >&2
        tail -n 20 "$log" 2>/dev/null | sed 's/^/    /' >&2 || :
        if [ "$2" = libvirtd ]; then
                tail -n 20 "$LAB_BIG/$1/var/log/libvirt/libvirtd.log" 2>/dev/null | sed 's/^/    /' >&2 || :
        fi
}

# node_off NODE: the plug is pulled. First the cables, so that no socket's farewell leaves a machine that is supposed to
# have died; then the init, and with it at once every process of its PID namespace.
node_off() {
        local node=$1 pid
        node_unplug "$node"
        if pid=$(node_init "$node"); then
                kill -KILL "$pid" 2>/dev/null || :
                # Gone means reaped, and that comes after the last process of its namespace.
                wait_until 20 process_gone "$pid" || die "the init of $node, $pid, does not die"
        fi
        rm -f "$LAB_STATE/$node/init"
        ns_empty "wl-$node"
        ns_delete "wl-$node"
}

process_gone() {
        [ ! -e "/proc/$1" ]
}

# ns_empty NS: ends what is (still) in a network namespace of ours: a node that died before it could write its init
# down, a shell that somebody left in there.
ns_empty() {
        [ -e "/run/netns/$1" ] || return 0
        wait_until 20 ns_kill "$1" || die "processes in $1 do not die: $(ip netns pids "$1" | tr '\n' ' ')"
}

ns_kill() {
        local pids
        pids=$(ip netns pids "$1")
        [ -n "$pids" ] || return 0
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || :
        return 1
}

# node_enter NODE COMMAND...: becomes the command, inside the node. It dies with its caller, as if it were a child.
node_enter() {
        local node=$1 pid
        shift
        pid=$(node_init "$node") || die "$node is powered off"
        # shellcheck disable=SC2016
        exec 8>&- 9>&- nsenter --target "$pid" --mount --uts --net --pid -- \
                setpriv --pdeathsig TERM sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "$@"
}

# node_service NODE start|stop|kill DAEMON
node_service() {
        local environment
        mapfile -t environment < <(node_environment)
        (
                close_inherited
                node_enter "$1" env -i "${environment[@]}" "$LAB_LIB/lab-init" "$@" </dev/null 3>&-
        )
}
