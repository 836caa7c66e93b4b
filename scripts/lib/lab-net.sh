# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The lab's cables. The switches stand in a namespace of their own, wl-net, where no packet filter of the machine (nor
# its bridge-nf) sees their frames; the machine itself is plugged into the LAN like anybody else, by "wl-lan".
#
#   root           wl-net                       wl-h1                     wl-ctl        wl-store
#   wl-lan ------- [ lan  ] -- h1-network ----- uplink=[wherry0]-taps     lan
#   10.77.0.1/16              10.77.1.1         10.77.0.2
#                  [ stor ] -- h1-storage ----- stor                      stor          stor  10.78.0.1/24
#
# To cut is to take the switch's end down: the node sees its carrier go, as with a pulled cable.
# Addresses of the network cards are fixed, so that a host that was off does not come back as a stranger in caches.

LAB_NET=wl-net

# ns_quiet NS: no IPv6 in there, neighbours' silence is noticed at once, loopback up.
ns_quiet() {
        # shellcheck disable=SC2016
        ip netns exec "$1" sh -c 'for f in all default; do echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6; done 2>/dev/null || :'
        ip -n "$1" link set lo up
}

net_up() {
        local stor=
        ! lab_has_storage_network || stor=stor
        ip netns add "$LAB_NET"
        ns_quiet "$LAB_NET"
        {
                local b
                for b in lan $stor; do
                        echo "link add $b type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
                        echo "link set $b up"
                done
        } | ip -n "$LAB_NET" -batch -
        ip link add wl-lan type veth peer name root netns "$LAB_NET"
        ip -n "$LAB_NET" link set root master lan up
        ip link set wl-lan addrgenmode none
        ip link set wl-lan up
        ip address add "$LAB_LAN_ROOT/16" dev wl-lan
}

net_down() {
        ip link delete wl-lan 2>/dev/null || :
        ns_delete "$LAB_NET"
}

# ns_delete NS: with its network cards, and not only its name: a connection that is still being closed in there would
# otherwise keep it, unseen, for minutes.
ns_delete() {
        [ -e "/run/netns/$1" ] || return 0
        ip netns exec "$1" sh -c 'echo 1 >/proc/sys/net/ipv4/tcp_orphan_retries' 2>/dev/null || :
        ip -n "$1" -o link show type veth 2>/dev/null | sed 's/^[0-9]*: \([^@:]*\).*/link delete \1/' |
                ip -n "$1" -force -batch - 2>/dev/null || :
        ip netns delete "$1"
}

# node_plug NODE: its namespace, cards and addresses; links that were cut stay so.
node_plug() {
        local node=$1 ns=wl-$1 link number
        case $node in
        h*) number=1${node#h} ;;
        ctl) number=02 ;;
        store) number=01 ;;
        esac
        ip netns add "$ns"
        ns_quiet "$ns"
        for link in $(node_links "$node"); do
                local inner bridge mac address
                address=$(node_address "$node" "$link")
                case $link in
                network) inner=lan bridge=lan mac=02:77:00:00:00:$number address+=/16 ;;
                storage) inner=stor bridge=stor mac=02:78:00:00:00:$number address+=/24 ;;
                esac
                ip -n "$LAB_NET" link add "$node-$link" type veth peer name "$inner" address "$mac" netns "$ns"
                ip -n "$LAB_NET" link set "$node-$link" master "$bridge"
                [ -e "$LAB_STATE/$node/cut.$link" ] || ip -n "$LAB_NET" link set "$node-$link" up
                if [ "$inner" = lan ] && [[ $node == h* ]]; then
                        ip -n "$ns" -batch - <<END
link set lan name uplink
link add wherry0 address $mac type bridge stp_state 0 forward_delay 0 mcast_snooping 0
link set uplink master wherry0 up
link set wherry0 up
address add $address dev wherry0
END
                else
                        ip -n "$ns" -batch - <<END
link set $inner up
address add $address dev $inner
END
                fi
        done
}

# node_unplug NODE: pulls every cable of it, at the switch.
node_unplug() {
        local link
        for link in $(node_links "$1"); do
                ip -n "$LAB_NET" link set "$1-$link" down 2>/dev/null || :
        done
}

# link_set NODE LINK cut|whole: works on a node without power, too; it will find its cables so.
link_set() {
        local node=$1 link=$2 state=up mark=$LAB_STATE/$1/cut.$2
        if [ "$3" = cut ]; then
                state=down
                : >"$mark"
        else
                rm -f "$mark"
        fi
        if node_init "$node" >/dev/null; then
                ip -n "$LAB_NET" link set "$node-$link" "$state"
        fi
}
