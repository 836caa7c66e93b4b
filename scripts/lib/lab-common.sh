# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2153
#
# What every part of the lab shares: where things are, what nodes there are, how to say and to fail.
#
# A node is a host (h1..h9), "ctl" (imaged) or "store" (the NFS or Ceph servers). Each is
#   a network namespace   wl-NODE, named, so that `ip netns` shows it
#   a PID namespace       whose init is lib/lab-init: killing that one process is pulling the plug
#   a mount and a UTS namespace, with a /run, /etc/libvirt, /var/lib/libvirt... of its own
#
# LAB_STATE/               small files; exists exactly while a lab is up (or was left half-way)
#   lab.conf               what `up` was asked for, as shell assignments
#   NODE/init              "PID STARTTIME" of the node's init, as the root namespace sees it
#   NODE/cut.LINK          the link is pulled
#   NODE/*.conf, *.token, ceph/   what the node's daemons read; no node sees another's
# LAB_BIG/                 what may grow
#   NODE/log/              everything that its daemons say
#   NODE/etc-libvirt ...   what outlives a power-off
#   store/                 the directory store, or the state of the storage servers

LAB_STATE=/run/wherry-lab
LAB_BIG=/var/tmp/wherry-lab
LAB_LIB=$LAB_ROOT/scripts/lib

LAB_LAN_ROOT=10.77.0.1
LAB_LAN_CTL=10.77.0.2
LAB_STOR_STORE=10.78.0.1
LAB_STOR_CTL=10.78.0.2
LAB_HOSTD_PORT=7070
LAB_IMAGED_PORT=8080
LAB_MAX_HOSTS=9

say() {
        [ -n "${LAB_QUIET-}" ] || printf '%s\n' "$*"
}

die() {
        printf 'lab: %s\n' "$*" >&2
        exit 1
}

usage_error() {
        printf 'lab: %s\n' "$*" >&2
        printf "Try 'scripts/lab --help'.\n" >&2
        exit 2
}

# lab_load: the settings of the lab that is up: LAB_STORE, LAB_HOSTS, LAB_BUILD, LAB_BARE, LAB_URL (of the store), LAB_PHASE.
lab_load() {
        [ -d "$LAB_STATE" ] || die "no lab is up; scripts/lab up starts one"
        # shellcheck disable=SC1091
        [ ! -e "$LAB_STATE/lab.conf" ] || . "$LAB_STATE/lab.conf"
        [ "${LAB_PHASE-}" = up ] || [ "${1-}" = half ] ||
                die "the lab did not finish coming up (or is coming up right now); scripts/lab down clears it away"
}

lab_save() {
        cat >"$LAB_STATE/lab.conf.new" <<END
LAB_PHASE=$LAB_PHASE
LAB_STORE=$LAB_STORE
LAB_HOSTS=$LAB_HOSTS
LAB_BARE=$LAB_BARE
LAB_BUILD=$(printf %q "$LAB_BUILD")
LAB_URL=$LAB_URL
LAB_NETNS_DIR=$LAB_NETNS_DIR
END
        mv "$LAB_STATE/lab.conf.new" "$LAB_STATE/lab.conf"
}

lab_has_storage_network() {
        [ "$LAB_STORE" != dir ]
}

# lab_nodes: the nodes of this lab, in the order in which they start.
lab_nodes() {
        local i
        if lab_has_storage_network; then
                echo store
        fi
        for ((i = 1; i <= LAB_HOSTS; i++)); do
                echo "h$i"
        done
        echo ctl
}

# word_in WORD TEXT: is it one of the text's lines? (Not `grep -q` behind a pipe: it ends at its first hit, the writer may
# then die of SIGPIPE, and pipefail makes that a no.)
word_in() {
        [[ $'\n'$2$'\n' == *$'\n'"$1"$'\n'* ]]
}

lab_node_exists() {
        word_in "$1" "$(lab_nodes)"
}

node_check() {
        lab_node_exists "$1" || usage_error "there is no '$1' in this lab; it has: $(lab_nodes | tr '\n' ' ')"
}

host_check() {
        if [[ $1 != h* ]] || ! lab_node_exists "$1"; then
                usage_error "there is no host '$1' in this lab; it has: $(lab_nodes | grep '^h' | tr '\n' ' ')"
        fi
}

# node_links NODE: the names of its cables.
node_links() {
        case $1 in
        store) echo storage ;;
        *)
                echo network
                if lab_has_storage_network; then
                        echo storage
                fi
                ;;
        esac
}

# node_address NODE network|storage
node_address() {
        case $1:$2 in
        ctl:network) echo "$LAB_LAN_CTL" ;;
        h*:network) echo "10.77.1.${1#h}" ;;
        store:storage) echo "$LAB_STOR_STORE" ;;
        ctl:storage) echo "$LAB_STOR_CTL" ;;
        h*:storage) echo "10.78.0.$((10 + ${1#h}))" ;;
        esac
}

# process_start PID: when it started, in clock ticks since boot; with the PID that names a process for ever.
process_start() {
        local stat
        read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
        stat=${stat##*) }
        # shellcheck disable=SC2086
        set -- $stat
        echo "${20}"
}

# node_init NODE: prints the PID of the node's init; fails where the node has no power.
node_init() {
        local pid start
        read -r pid start 2>/dev/null <"$LAB_STATE/$1/init" || return 1
        [ "$(process_start "$pid")" = "$start" ] || return 1
        echo "$pid"
}

# wait_until SECONDS COMMAND...: 0 as soon as it succeeds, 1 when the time is over.
wait_until() {
        local deadline=$((SECONDS + $1 + 1))
        shift
        until "$@"; do
                [ "$SECONDS" -lt "$deadline" ] || return 1
                sleep 0.03
        done
}
