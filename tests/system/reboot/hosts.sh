# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # TOP, build and dir are run's
#
# Two hosts in containers, an imaged beside them, and a folder that all three share as their store.

BIG=/var/tmp
STORE=/mnt # the same path for all
URL=http://10.99.0.1:8080

fail() {
        echo "$*" >&2
        exit 1
}

not() {
        ! "$@"
}

# wait_until SECONDS COMMAND...: until it succeeds; 1 when the time is over.
wait_until() {
        local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
        shift
        until "$@" >/dev/null 2>&1; do
                ((${EPOCHREALTIME/./} < end)) || return 1
                sleep 0.1
        done
}

# soon WHAT SECONDS COMMAND...: the story fails, saying WHAT, unless it succeeds in that time.
soon() {
        local what=$1
        shift
        wait_until "$@" || fail "not within $1 s: $what"
}

# stays SECONDS COMMAND...: it succeeds all that time long.
stays() {
        local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
        shift
        while ((${EPOCHREALTIME/./} < end)); do
                "$@" || return 1
                sleep 0.2
        done
}

# leader HOST: its systemd, another one after each boot.
leader() {
        local nspawn pid
        nspawn=$(cat "$dir/$1.pid") || return 1
        pid=$(cat "/proc/$nspawn/task/$nspawn/children" 2>/dev/null) && [ -n "$pid" ] && echo "${pid%% *}"
}

# on HOST COMMAND...: in there.
on() {
        local pid
        pid=$(leader "$1") || return 1
        shift
        nsenter --target "$pid" --all -- "$@"
}

boot_of() {
        on "$1" cat /proc/sys/kernel/random/boot_id
}

# booted_anew HOST BOOT: it has, and hostd is ready.
booted_anew() {
        [[ $(boot_of "$1") != "$2" ]] && on "$1" systemctl is-active --quiet hostd
}

conf_libvirt() {
        local root=$1 n=$2
        cat >"$root/etc/libvirt/libvirtd.conf" <<END
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_rw = "none"
host_uuid = "77000000-0000-4000-8000-00000000000$n"
END
        cat >"$root/etc/libvirt/qemu.conf" <<END
lock_manager = "wherry"
security_driver = "none"
namespaces = []
cgroup_controllers = []
END
        # What Debian's does where nobody has changed it, but for the time.
        printf 'ON_BOOT=ignore\nON_SHUTDOWN=shutdown\nSHUTDOWN_TIMEOUT=60\n' >"$root/etc/default/libvirt-guests"
        rm -rf "$root/etc/libvirt/qemu/networks/autostart"
}

conf_hostd() {
        cat <<END
[store]
url = dir:$STORE

[host]
name = h$1
number = $1
address = 10.99.0.1$1
accel = tcg
memory = 8G
peer_uri = qemu+tcp://10.99.0.1$1/system
handover_seconds = 60

[api]
listen = 10.99.0.1$1:7070
token_file = /etc/wherry/cluster-token
END
}

# The container's cable, and the guests' bridge.
conf_network() {
        cat <<END
[Unit]
DefaultDependencies=no
Before=network.target network-online.target
After=local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ip link set lo up; ip addr add 10.99.0.1$1/24 dev host0; ip link set host0 up'
ExecStart=/bin/sh -c 'ip link add wherry0 type bridge; ip addr add 10.77.255.1$1/16 dev wherry0; ip link set wherry0 up'

[Install]
WantedBy=multi-user.target
END
}

# host_make N
host_make() {
        local n=$1 root=$BIG/h$1/root etc=$BIG/h$1/root/etc unit
        mkdir -p "$BIG/h$n"/{upper,work,root}
        mount -t overlay "wherry-h$n" -o "lowerdir=/,upperdir=$BIG/h$n/upper,workdir=$BIG/h$n/work" "$root" || return
        DESTDIR=$root meson install -C "$build" --no-rebuild --quiet || return
        echo "h$n" >"$etc/hostname"
        tr -d - </proc/sys/kernel/random/uuid >"$etc/machine-id"
        : >"$etc/fstab"
        mkdir -p "$etc/wherry"
        cp "$TOP/hostd/dnsmasq.conf" "$etc/wherry/"
        cp "$dir/token" "$etc/wherry/cluster-token"
        conf_hostd "$n" >"$etc/wherry/hostd.conf"
        "$TOP/scripts/certificates" "$BIG/pki" "h$n=10.99.0.1$n" >/dev/null || return
        rm -rf "$etc/pki"
        mv "$BIG/pki/h$n/pki" "$etc/pki"
        conf_libvirt "$root" "$n"
        conf_network "$n" >"$etc/systemd/system/story-network.service"
        rm -rf "$root/var/log/journal"
        for unit in "$etc"/systemd/system/{timers,sysinit,multi-user}.target.wants/*; do
                rm -f "$unit"
        done
        systemctl --quiet --root="$root" enable story-network libvirtd libvirtd-tcp.socket libvirt-guests hostd wherry-dnsmasq
}

# host_run N: the container until it is powered off. In a control group of its own: two containers in one would share theirs.
host_run() {
        local n=$1 group status=133 # nspawn's own for a reboot, where it is a service's main process
        for group in /sys/fs/cgroup/{systemd,unified}; do
                [ -d "$group" ] || continue
                mkdir -p "$group/$WRB_GROUP-h$n"
                echo "$BASHPID" >"$group/$WRB_GROUP-h$n/cgroup.procs"
        done
        while [ $status = 133 ]; do
                systemd-nspawn --quiet --boot --directory="$BIG/h$n/root" --machine="h$n" --register=no --keep-unit \
                        --link-journal=no --network-bridge=br0 --capability=all --bind="$BIG/store:$STORE" \
                        --bind=/dev/net/tun --tmpfs=/var/tmp --console=passive --resolv-conf=off --timezone=off &
                echo $! >"$dir/h$n.pid"
                status=0
                wait $! || status=$?
        done
}

host_start() {
        host_run "$1" >"$dir/h$1.boot" 2>&1 </dev/null &
}

hosts_up() {
        local n
        mkdir -p "$BIG/store"
        chmod 755 "$BIG/store"
        mount --bind "$BIG/store" "$STORE"
        ip link add br0 type bridge && ip addr add 10.99.0.1/24 dev br0 && ip link set br0 up
        head -c 24 /dev/urandom | sha256sum | cut -c 1-48 >"$dir/token"
        ssh-keygen -q -t ed25519 -N '' -C stories -f "$dir/key"
        for n in 1 2; do
                host_make "$n" || return 1
                host_start "$n"
        done
        imaged_start
        export WHERRY_URL=$URL
        WHERRY_TOKEN=$(cat "$dir/token")
        export WHERRY_TOKEN
        wait_until 60 wherry host list || return 1
        wait_until 90 hosts_alive 2 || { echo "not all hosts are alive" && return 1; }
        wherry image add "$("$TOP/scripts/guest-images" small --list)" --name small --json >/dev/null
}

imaged_start() {
        cat >"$dir/imaged.conf" <<END
[store]
url = dir:$STORE

[api]
listen = 10.99.0.1:8080
token_file = $dir/token

[hostd]
token_file = $dir/token

[network]
bridge = wherry0
range = 10.77.0.0/16
first = 10.77.2.0
last = 10.77.9.255
gateway = 10.77.255.11
nameservers =
END
        "$build/imaged/imaged" --config "$dir/imaged.conf" >"$dir/imaged.log" 2>&1 </dev/null &
}

# where NAME: "HOST:PID" of each QEMU of it, by the host's process namespace.
where() {
        local n pid ns
        for n in 1 2; do
                ns=$(readlink "/proc/$(leader "h$n")/ns/pid" 2>/dev/null) || continue
                for pid in $(pgrep -f "guest=wherry-$1[,\$]"); do
                        [[ $(readlink "/proc/$pid/ns/pid" 2>/dev/null) != "$ns" ]] || echo "h$n:$pid"
                done
        done
}

no_qemu() {
        [[ -z $(where "$1") ]]
}

# runs_on NAME HOST: one QEMU, there, and so the record says.
runs_on() {
        local at
        at=$(where "$1")
        [[ $at == "$2":* && $at != *$'\n'* ]] && [[ $(instance_field "$1" '.status | "\(.state) h\(.host)"') == "running $2" ]]
}

another_runs_on() {
        runs_on "$1" "$2" && [[ $(where "$1") != "$3" ]]
}

wanted_is() {
        [[ $(instance_field "$1" .wanted) == "$2" ]]
}

# given NAME HOST [OPTION...]: it runs there, and its kernel listens.
given() {
        local name=$1 host=$2
        shift 2
        if ! wherry show "$name" >/dev/null 2>&1; then
                wherry run small --name "$name" --host "$host" --memory 128M --disk 512M --ssh-key "$dir/key.pub" --json "$@" >/dev/null
        fi
        soon "$name runs on $host: $(where "$name")" 60 runs_on "$name" "$host"
        soon "ssh to $name" 240 in_guest "$name" "$host" true
}

# in_guest NAME HOST COMMAND: by ssh from its host.
in_guest() {
        local address host=$2
        address=$(instance_address "$1")
        shift 2
        nsenter --target "$(leader "$host")" --net -- ssh -q -i "$dir/key" -o BatchMode=yes -o StrictHostKeyChecking=no \
                -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5 "root@$address" "$@"
}

events() {
        wherry events --json | jq -r --arg kind "$1" '[.. | objects | select(.kind? == $kind)] | length'
}

show_logs() {
        local n
        for n in 1 2; do
                echo "    --- h$n"
                tail -n 5 "$dir/h$n.boot" | sed 's/^/    /'
                on "h$n" journalctl --no-pager -n 40 -o short-precise -u hostd -u libvirtd -u libvirt-guests 2>&1 | cut -c 1-220 | sed 's/^/    /'
        done
        tail -n 12 "$dir/imaged.log" | cut -c 1-220 | sed 's/^/    /'
}
