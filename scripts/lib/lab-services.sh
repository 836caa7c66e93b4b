# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The daemons of a node; everything here runs inside the node, as its init or brought in by nsenter.
# Each start returns once the daemon serves, or fails at once when it has died. (They are called where bash's errexit is
# off, so each says "|| return" itself.)

NODE_PIDS=/run/lab

# node_services NODE: what runs there, in the order of starting.
node_services() {
        case $1 in
        h*) echo libvirtd dnsmasq ;;
        store) echo "${LAB_STORE}-server" ;;
        esac
        [ "$LAB_BARE" = 1 ] || case $1 in
        h*) echo hostd ;;
        ctl) echo imaged ;;
        esac
}

service_pid() {
        local pid start
        read -r pid start 2>/dev/null <"$NODE_PIDS/$1" || return 1
        [ "$(process_start "$pid")" = "$start" ] || return 1
        echo "$pid"
}

service_mark() {
        local start
        start=$(process_start "$2") || return
        echo "$2 $start" >"$NODE_PIDS/$1"
}

service_start() {
        local service=$1
        ! service_pid "$service" >/dev/null || return 0
        case $service in
        libvirtd) libvirtd_start ;;
        dnsmasq) dnsmasq_start ;;
        hostd) daemon_start hostd "$LAB_BUILD/hostd/hostd" "$(node_address "$LAB_NODE" network):$LAB_HOSTD_PORT" ;;
        imaged) daemon_start imaged "$LAB_BUILD/imaged/imaged" "$(node_address ctl network):$LAB_IMAGED_PORT" ;;
        nfs-server) "$LAB_LIB/nfs-server" start "$LAB_BIG/store" "$LAB_STOR_STORE" ;;
        rbd-server) "$LAB_LIB/ceph-server" start "$LAB_BIG/store" "$LAB_STOR_STORE" ;;
        esac >>"$LAB_LOGS/$service.log" 2>&1
}

# service_stop SERVICE TERM|KILL: returns when it is gone.
service_stop() {
        local service=$1 pid
        case $service in
        nfs-server | rbd-server)
                [ "$2" = TERM ] || die "kill means one process, and the store is several; power-off store pulls its plug"
                "$LAB_LIB/${service/rbd/ceph}" stop "$LAB_BIG/store" >>"$LAB_LOGS/$service.log" 2>&1
                return
                ;;
        esac
        pid=$(service_pid "$service") || return 0
        kill "-$2" "$pid"
        wait_until 120 service_gone "$service" || die "$service does not end; 'kill' instead of 'stop' insists"
}

service_gone() {
        ! service_pid "$1" >/dev/null
}

libvirtd_start() {
        LIBVIRT_LOCK_MANAGER_PLUGIN_DIR=$LAB_BUILD/hostd/lock-driver libvirtd --daemon --listen || return
        service_mark libvirtd "$(cat /run/libvirtd.pid)" || return
        # It takes connections before its drivers are loaded; this call is answered after that.
        timeout 30 virsh -c qemu:///system version >/dev/null
}

dnsmasq_start() {
        mkdir -p /run/wherry/dhcp-hosts
        dnsmasq --conf-file=/dev/null --user=root --port=0 --interface=wherry0 --bind-interfaces --except-interface=lo \
                --dhcp-range=10.77.0.0,static,255.255.0.0,infinite --dhcp-hostsdir=/run/wherry/dhcp-hosts \
                --dhcp-ignore=tag:!known --dhcp-authoritative --dhcp-option=option:router,"$LAB_LAN_ROOT" \
                --dhcp-leasefile=/run/lab/dnsmasq.leases --pid-file=/run/lab/dnsmasq.pid \
                --log-facility="$LAB_LOGS/dnsmasq.log" --log-dhcp || return
        service_mark dnsmasq "$(cat /run/lab/dnsmasq.pid)"
}

# daemon_start NAME PROGRAM ADDRESS:PORT: one of ours. It serves when /healthz answers; without a token that may be a
# refusal, which is an answer.
daemon_start() {
        local name=$1 program=$2 pid deadline=$((SECONDS + 31))
        local url=http://$3/healthz
        setsid "$program" --config "$LAB_STATE/$LAB_NODE/$name.conf" </dev/null &
        pid=$!
        service_mark "$name" "$pid" || {
                echo "$name died at once"
                return 1
        }
        until curl --silent --output /dev/null --max-time 5 "$url"; do
                service_pid "$name" >/dev/null || {
                        echo "$name died while starting"
                        return 1
                }
                [ "$SECONDS" -lt "$deadline" ] || {
                        echo "$name runs, but $url does not answer after 30 s"
                        return 1
                }
                sleep 0.05
        done
}
