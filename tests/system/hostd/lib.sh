# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # TOP, build, dir, store and hosts are run's
#
# What hostd's stories are told with. What is so is read past our own software: processes from /proc, guests from virsh.

wherry() {
        "$build/imaged/cli/wherry" "$@"
}

fail() {
        echo "$*" >&2
        exit 1
}

# wait_until SECONDS COMMAND...: until it succeeds; 1 when the time is over.
wait_until() {
        local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
        shift
        until "$@" >/dev/null 2>&1; do
                ((${EPOCHREALTIME/./} < end)) || return 1
                sleep 0.05
        done
}

not() {
        ! "$@"
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
                sleep 0.1
        done
}

# lab_up HOSTS
lab_up() {
        hosts=$1
        lab up --store "$store" --hosts "$hosts" --build "$build" >"$dir/lab.log" 2>&1 || {
                cat "$dir/lab.log"
                return 1
        }
        eval "$(lab env)"
        [ -e "$dir/key" ] || ssh-keygen -q -t ed25519 -N '' -C stories -f "$dir/key"
        wait_until 20 hosts_alive "$hosts" || {
                echo "not all hosts are alive"
                return 1
        }
        small=$(wherry image add "$("$TOP/scripts/guest-images" small --list)" --name small --json | jq -r .id)
        as --32 -o "$dir/tiny.o" "$TOP/tests/system/virt/guest.S"
        ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$dir/tiny.raw" "$dir/tiny.o"
        wherry image add "$dir/tiny.raw" --name tiny --json >/dev/null
}

# hosts_are NUMBER: of the lab's hosts so many have a hostd, the others none: for stories that leave no choice.
hosts_are() {
        local n
        [ "$hosts" != "$1" ] || return 0
        for ((n = $1 + 1; n <= hosts; n++)); do
                lab stop "h$n" hostd >/dev/null
        done
        hosts=$1
        wait_until 30 hosts_up
}

# given NAME HOST [OPTION...]: an instance that runs there, a new one unless an earlier story has left it so. The new
# one's guest is a boot sector that writes to its disk at each tick of its clock: it has booted at once.
given() {
        given_of tiny "$@"
}

# given_linux NAME HOST [OPTION...]: the same, with a Linux in it that answers ssh once it has booted. Emulation takes a
# processor for that, so of the boxes side by side one at a time has such guests: until the end of its group of stories.
given_linux() {
        flock 8
        ! not_linux "$1" || removed "$1"
        given_of small "$@"
}

not_linux() {
        local image
        image=$(instance_field "$1" .image 2>/dev/null) && [[ $image != "$small" ]]
}

given_of() {
        local image=$1 name=$2 host=$3
        shift 3
        ! runs_on "$name" "$host" >/dev/null 2>&1 || return 0
        ! state_is "$name" running 2>/dev/null || removed "$name" # an earlier story has left it elsewhere
        wait_until 30 not wherry show "$name"
        rm -f "$dir/known-hosts" # its address may have been another guest's, with another key
        placed wherry run "$image" --name "$name" --host "$host" --memory 128M --disk 512M --ssh-key "$dir/key.pub" "$@"
        wait_until 30 runs_on "$name" "$host" || fail "$name does not run on $host: $(where "$name")"
}

# placed COMMAND...: it succeeds. What was done to a host before may be in its record, or in imaged's list of hosts, for
# a moment more: while no host has room it is asked again.
placed() {
        local said end=$((SECONDS + 20))
        until said=$("$@" 2>&1); do
                [[ $said == *"no host has room"* ]] && ((SECONDS < end)) || fail "$*: $said"
                sleep 0.2
        done
}

id_of() {
        instance_field "$1" .id
}

# where NAME: "HOST:PID" of each QEMU of it, on whatever host.
where() {
        local n pid
        for ((n = 1; n <= hosts; n++)); do
                for pid in $(ip netns pids "wl-h$n" 2>/dev/null); do
                        if [[ $(tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline") == *"guest=wherry-$1"[$',\n']* ]]; then
                                echo "h$n:$pid"
                        fi
                done
        done
}

# only_on NAME HOST: that host, and no other, has a QEMU of it, one, and its vCPU has run.
only_on() {
        local at
        at=$(where "$1")
        [[ $at == "$2":* && $at != *$'\n'* ]] && qemu_runs "${at#*:}"
}

# runs_on NAME HOST: so it is, and so the record says.
runs_on() {
        only_on "$1" "$2" && [[ $(instance_field "$1" '.status | "\(.state) h\(.host)"') == "running $2" ]]
}

# runs_alone NAME: on whichever host.
runs_alone() {
        local n
        for ((n = 1; n <= hosts; n++)); do
                ! runs_on "$1" "h$n" || return 0
        done
        return 1
}

# runs_soon NAME HOST: a command of the user has returned; what it did is there for all to see a moment later.
runs_soon() {
        soon "$1 runs on $2: $(where "$1")" 30 runs_on "$1" "$2"
}

state_is() {
        [[ $(instance_field "$1" .status.state) == "$2" ]]
}

no_qemu() {
        [[ -z $(where "$1") ]]
}

epoch_of() {
        instance_field "$1" .status.epoch
}

# pid_on NAME HOST: of its QEMU.
pid_on() {
        local end=$((SECONDS + 5))
        until qemu_pid "$2" "$1"; do
                ((SECONDS < end)) || return 1
                sleep 0.1
        done
}

# removed NAME...: the guest has ended and the disks are gone; imaged forgets the name when it next looks.
# On rbd that waits until the watch of a QEMU that was killed has run out, half a minute.
removed() {
        local name id
        for name; do
                id=$(id_of "$name")
                wherry rm "$name" --no-wait --json >/dev/null
                soon "$name is gone: $(where "$name")" 60 gone "$name" "$id"
        done
}

gone() {
        local record
        no_qemu "$1" || return 1
        record=$(wherry show "$2" --json 2>/dev/null) || return 0
        [[ $(jq -r .status.state <<<"$record") == deleted ]]
}

# events: what hostd and imaged have told since this story began, as a list.
events() {
        wherry events --json | jq --arg since "$story_began" '[.. | objects | select(.kind? and .at >= $since)]'
}

# happened KIND NAME [TEXT]: they have told so, or do within 10 s: an event is written after what it tells of.
happened() {
        wait_until 10 happened_now "$@" || fail "not told: $1 of $2, \"${3-}\""
}

# happened_now KIND NAME [TEXT]: an event of that kind about that instance (its record's name or id) has the text.
happened_now() {
        events | jq -e --arg kind "$1" --arg name "$2" --arg id "$(id_of "$2")" --arg text "${3-}" \
                'any(.[]; .kind == $kind and (.name == $name or .instance == $id) and (.text | contains($text)))'
}

# refused TEXT COMMAND...: it fails, saying so; "no host has room" may have another reason for a moment, as in `placed`.
refused() {
        local text=$1 said end=$((SECONDS + 20))
        shift
        while true; do
                ! said=$("$@" 2>&1) || fail "was not refused: $*"
                ! grep -q -- "$text" <<<"$said" || return 0
                [[ $said == *"no host has room"* ]] && ((SECONDS < end)) || fail "refused with another reason: $said"
                sleep 0.2
        done
}

# edit_record host|instance ID MEMBER JSON: as another writer would; told by the last host, the one that stories switch off least.
edit_record() {
        lab exec "h$hosts" "$build/tests/system/hostd/edit-record" "/run/wherry-lab/h$hosts/hostd.conf" "$@"
}

# took_over: how many hosts were taken for dead since this story began.
took_over() {
        events | jq '[.[] | select(.kind == "host-dead")] | length'
}

# daemon_dies HOST DAEMON: by SIGKILL.
daemon_dies() {
        lab kill "$1" "$2" >/dev/null
}

daemon_starts() {
        lab start "$1" "$2" >/dev/null
}

host_is() {
        [[ $(wherry host show "$1" --json | jq -r .state) == "$2" ]]
}

# has_network HOST: by its record, which new instances are placed by.
has_network() {
        wherry host show "$1" --json | jq -e '.uplink_dead != true' >/dev/null
}

# has_libvirt HOST: likewise.
has_libvirt() {
        wherry host show "$1" --json | jq -e '(.cannot_start // "") == ""' >/dev/null
}

# hosts_up: each is there, and gets instances.
hosts_up() {
        local n
        for ((n = 1; n <= hosts; n++)); do
                host_is "h$n" up && has_network "h$n" && has_libvirt "h$n" || return 1
        done
        hosts_alive "$hosts"
}

show_logs() {
        local node
        for node in ctl $(seq -f 'h%g' "$hosts"); do
                echo "    --- $node"
                tail -n 12 "/var/tmp/wherry-lab/$node/log/"{hostd,imaged}.log 2>/dev/null | cut -c 1-260 | sed 's/^/    /'
        done
        [ -z "${WHS_KEEP-}" ] || {
                mkdir -p "$WHS_KEEP"
                cp -r /var/tmp/wherry-lab/*/log "$WHS_KEEP/"
        }
}

# After a story that failed: the next one finds a whole lab without instances.
clean_up() {
        local n name
        for ((n = 1; n <= hosts; n++)); do
                lab power-on "h$n" >/dev/null 2>&1
                lab heal "h$n" >/dev/null 2>&1
                lab start "h$n" libvirtd >/dev/null 2>&1
                lab start "h$n" hostd >/dev/null 2>&1
        done
        lab start ctl imaged >/dev/null 2>&1
        [ "$store" = dir ] || lab power-on store >/dev/null 2>&1
        wait_until 30 hosts_up
        rm -f "$dir/known-hosts" # the next guest may get the address of one that is removed here
        for name in $(wherry ls --json | jq -r '.. | objects | select(.wanted?) | .name'); do
                wherry rm "$name" --timeout 90 >/dev/null 2>&1
        done
}

sanitizers_are_silent() {
        local said
        said=$(grep -HhE 'ERROR: (Address|Leak)Sanitizer|runtime error:|WARNING: ThreadSanitizer' /var/tmp/wherry-lab/*/log/*.log)
        [ -z "$said" ] || {
                echo "FAIL  a sanitizer spoke: $said"
                grep -hA 30 -E 'ERROR: (Address|Leak)Sanitizer|runtime error:|WARNING: ThreadSanitizer' /var/tmp/wherry-lab/*/log/*.log | head -n 300
                return 1
        }
}
