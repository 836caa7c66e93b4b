# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What is there, read from the kernel (processes, namespaces) and not from what was once started.

# node_processes NODE: a line for each process of it: PID, PID inside, start, and for a guest's QEMU the guest's name.
node_processes() {
        local pid
        node_init "$1" >/dev/null || return 0
        for pid in $(ip netns pids "wl-$1" 2>/dev/null); do
                local name inner start guest=
                name=$(awk '/^Name:/ { n = $2 } /^NSpid:/ { i = $NF } END { print i, n }' "/proc/$pid/status" 2>/dev/null) || continue
                start=$(process_start "$pid") || continue
                inner=${name%% *} name=${name#* }
                case $name in
                qemu-system*)
                        guest=$(tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | sed -n 's/^guest=\([^,]*\).*/\1/p') || :
                        ;;
                esac
                echo "$pid $inner $start $guest"
        done
}

# node_pids NODE [DAEMON|qemu]: of that daemon, of its guests, or of all but its init.
node_pids() {
        local id='' init
        init=$(node_init "$1") || return 0
        case ${2-} in
        '') node_processes "$1" | awk -v init="$init" '$1 != init { print $1 }' ;;
        qemu) node_processes "$1" | awk 'NF == 4 { print $1 }' ;;
        *)
                read -r id 2>/dev/null <"/proc/$init/root$NODE_PIDS/$2" || :
                node_processes "$1" | awk -v id="$id" '$2 " " $3 == id { print $1 }'
                ;;
        esac
}

# node_json NODE
node_json() {
        local node=$1 pid=null power=off link cut='' service services=() processes id
        if pid=$(node_init "$node"); then
                power=on
        else
                pid=null
        fi
        for link in $(node_links "$node"); do
                [ ! -e "$LAB_STATE/$node/cut.$link" ] || cut+="$link "
        done
        processes=$(node_processes "$node")
        for service in $(node_services "$node"); do
                [ "$node" != store ] || continue
                id=
                [ "$power" = off ] || read -r id 2>/dev/null <"/proc/$pid/root$NODE_PIDS/$service" || :
                services+=("$service=$(awk -v id="$id" '$2 " " $3 == id { print $1 }' <<<"$processes")")
        done
        jq -n --arg name "$node" --arg power "$power" --argjson init "$pid" --arg cut "$cut" \
                --arg network "$(node_address "$node" network)" \
                --arg storage "$(! lab_has_storage_network || node_address "$node" storage)" \
                --arg guests "$(awk 'NF == 4 { print $4, $1 }' <<<"$processes")" \
                --args '{
                        name: $name, power: $power, pid: $init,
                        cut: ($cut | split(" ") | map(select(. != ""))),
                        address: (if $network == "" then null else $network end),
                        storage_address: (if $storage == "" then null else $storage end),
                        daemons: ($ARGS.positional | map(split("=") | {key: .[0], value: (.[1] | tonumber? // null)}) | from_entries),
                        guests: ($guests | split("\n") | map(select(. != "") | split(" ") | {name: .[0], pid: (.[1] | tonumber)}))
                }' "${services[@]}"
}

status_json() {
        local node
        for node in $(lab_nodes); do
                node_json "$node"
        done | jq -s --arg store "$LAB_STORE" --arg store_url "$LAB_URL" --arg url "$(imaged_url)" --arg bare "$LAB_BARE" '{
                up: true, store: $store, store_url: $store_url, url: (if $bare == "1" then null else $url end),
                hosts: map(select(.name | startswith("h"))),
                others: map(select(.name | startswith("h") | not))
        }'
}

status_text() {
        local json
        json=$(status_json)
        jq -r '"store   \(.store_url)", "imaged  \(.url // "not started (--bare)")", ""' <<<"$json"
        jq -r '
                (["NODE", "POWER", "ADDRESS", "CUT", "DAEMONS (PID)", "GUESTS (PID)"],
                ((.hosts + .others)[] | [
                        .name, .power, (.address // .storage_address), (.cut | join(",") | if . == "" then "-" else . end),
                        (if .power == "off" then "-" else
                                .daemons | to_entries | map("\(.key) \(.value // "DEAD")") | join(", ") | if . == "" then "-" else . end
                        end),
                        (.guests | map("\(.name) \(.pid)") | join(", ") | if . == "" then "-" else . end)
                ]) | @tsv)' <<<"$json" | column -t -s $'\t' -L
}

imaged_url() {
        echo "http://$LAB_LAN_CTL:$LAB_IMAGED_PORT"
}
