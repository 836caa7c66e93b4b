# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The configuration files of a lab, all written by `up`.

# conf_tokens: customers' token is for imaged only; the cluster's also for the hosts. Each node gets what it may know.
conf_tokens() {
        local node cluster
        cluster=$(conf_token)
        for node in $(lab_nodes); do
                (umask 077 && echo "$cluster" >"$LAB_STATE/$node/cluster.token")
        done
        (umask 077 && conf_token >"$LAB_STATE/ctl/api.token")
}

# conf_certificates: each host gets its own key; nothing is kept that could sign another.
conf_certificates() {
        local node hosts=()
        for node in $(lab_nodes | grep '^h'); do
                hosts+=("$node=$(node_address "$node" network)")
        done
        "$LAB_ROOT/scripts/certificates" "$LAB_BIG/pki" "${hosts[@]}"
        for node in "${hosts[@]%%=*}"; do
                rm -rf "$LAB_BIG/$node/etc/pki"
                mv "$LAB_BIG/pki/$node/pki" "$LAB_BIG/$node/etc/pki"
        done
        rm -r "$LAB_BIG/pki"
}

conf_token() {
        head -c 32 /dev/urandom | sha256sum | cut -c 1-48
}

# ceph_user NODE: hosts reach instances, hosts and networks, but no accounts.
ceph_user() {
        case $1 in
        ctl) echo wherry ;;
        *) echo wherry-host ;;
        esac
}

# conf_ceph: hands out the cluster's address and to each node its own key, once the cluster has made them.
conf_ceph() {
        local node dir user
        for node in $(lab_nodes | grep -v '^store$'); do
                dir=$LAB_STATE/$node/ceph user=$(ceph_user "$node")
                mkdir -p "$dir"
                sed "s|$LAB_BIG/store/|$dir/|g" "$LAB_BIG/store/ceph.conf" >"$dir/ceph.conf"
                cp -p "$LAB_BIG/store/client.$user.keyring" "$dir/"
        done
}

conf_store_section() {
        echo "[store]"
        echo "url = $LAB_URL"
        if [ "$LAB_STORE" = rbd ]; then
                echo "ceph_conf = $LAB_STATE/$1/ceph/ceph.conf"
                echo "ceph_user = $(ceph_user "$1")"
        fi
}

conf_hostd() {
        local node=$1 storage=network
        ! lab_has_storage_network || storage=storage
        conf_store_section "$node"
        cat <<END

[host]
name = $node
number = ${node#h}
address = $(node_address "$node" network)
storage_address = $(node_address "$node" "$storage")
accel = tcg
${LAB_CPUS:+cpus = $LAB_CPUS}
libvirt_uri = qemu:///system
bridge = wherry0
dhcp_hosts_dir = /run/wherry/dhcp-hosts
gate_socket = /run/wherry/gate.sock
handover_seconds = 60

[api]
listen = $(node_address "$node" network):$LAB_HOSTD_PORT
token_file = $LAB_STATE/$node/cluster.token
END
}

conf_imaged() {
        conf_store_section ctl
        cat <<END

[api]
listen = $LAB_LAN_CTL:$LAB_IMAGED_PORT
token_file = $LAB_STATE/ctl/api.token

[hostd]
token_file = $LAB_STATE/ctl/cluster.token

[network]
bridge = wherry0
range = 10.77.0.0/16
first = 10.77.2.0
last = 10.77.9.255
gateway = $LAB_LAN_ROOT
nameservers =
END
}

# Hosts reach each other over TLS; the plain port is for people and tests. There are no controllers to manage in a namespace,
# and log lines go straight to files, so that no virtlogd is needed. QEMU runs as whom the distribution chose.
conf_libvirt() {
        local node=$1 etc=$2
        cat >"$etc/libvirtd.conf" <<END
listen_tls = 1
listen_tcp = 1
listen_addr = "$(node_address "$node" network)"
auth_tcp = "none"
auth_unix_rw = "none"
host_uuid = "77000000-0000-4000-8000-00000000000${node#h}"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
END
        cat >"$etc/qemu.conf" <<END
lock_manager = "wherry"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
END
}

conf_etc() {
        local etc=$1 node=$2 n link
        mkdir -p "$etc"
        echo "$node" >"$etc/hostname"
        : >"$etc/resolv.conf"
        {
                echo "127.0.0.1 localhost"
                for n in $(lab_nodes); do
                        for link in $(node_links "$n"); do
                                if [ "$link" = network ] || [ "$n" = store ]; then
                                        echo "$(node_address "$n" "$link") $n"
                                else
                                        echo "$(node_address "$n" "$link") $n-storage"
                                fi
                        done
                done
        } >"$etc/hosts"
}

# conf_node NODE: its folders and everything that its daemons read.
conf_node() {
        local node=$1
        mkdir -p "$LAB_STATE/$node" "$LAB_BIG/$node/log"
        conf_etc "$LAB_STATE/$node/etc" "$node"
        case $node in
        h*)
                mkdir -p "$LAB_BIG/$node/etc/libvirt" "$LAB_BIG/$node/var/log"
                ln -s ../var/log/libvirt "$LAB_BIG/$node/log/libvirt"
                conf_libvirt "$node" "$LAB_BIG/$node/etc/libvirt"
                conf_hostd "$node" >"$LAB_STATE/$node/hostd.conf"
                ;;
        ctl) conf_imaged >"$LAB_STATE/$node/imaged.conf" ;;
        esac
}
