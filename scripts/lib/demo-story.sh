# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # detail and others are read by the demo's other parts
# shellcheck disable=SC2154
#
# The story, a function a step. `here` is the host that runs the instance, `there` the one it came from or goes to.

readonly demo=demo
here='' there='' address=''

story() {
        step image_import "image imported" image_import
        step launch "instance runs" launch
        step ssh "ssh logs in, file written" ssh_login
        step restart "restarted, file still there" restart
        step install "installed from the ISO" install_iso
        step migrate "moved alive while it writes" migrate
        step failover "host lost power, runs again" failover
        step fenced "old host is back, and fenced" fenced
}

image_import() {
        local image size stored
        image=$("$TOP/scripts/guest-images" small --list)
        size=$(qemu-img info --output=json "$image" | jq '."virtual-size"')
        wherry image add "$image" --name small --os debian --version 12 --json >"$dir/image.json"
        wherry image add "$("$TOP/scripts/guest-images" iso --list)" --name installer --os debian --version 12 --json >"$dir/iso.json"
        [[ $(wherry image show small --json | jq -r .status) == active ]] || fail "image small is not active"
        [[ $(wherry image show installer --json | jq -r .disk_format) == iso ]] || fail "image installer is not an ISO"
        stored=$(wherry image show small --json | jq .virtual_size)
        [[ $stored == "$size" ]] || fail "image small has $stored bytes in the store, its file $size"
        detail="small ($((size >> 20)) MiB) and installer (ISO) are active"
}

launch() {
        local begin n
        begin=$(now_ms)
        wherry run small --name "$demo" --memory 256M --disk 1G --ssh-key "$dir/key.pub" --json >"$dir/run.json"
        figure launch_s "$(seconds $(($(now_ms) - begin)))"
        address=$(instance_address "$demo")
        here=$(instance_host "$demo")
        qemu_pid "$here" "$demo" >/dev/null || fail "the record says $here, which has no QEMU of it"
        for ((n = 1; n <= hosts; n++)); do
                [[ h$n == "$here" ]] || ! qemu_pid "h$n" "$demo" >/dev/null || fail "it runs on $here and on h$n"
        done
        detail="on $here alone, address $address, ${steps_figure[launch_s]} s to its QEMU running"
}

ssh_login() {
        wait_until 90 guest_answers "$address" || fail "no ssh at $address"
        [[ $(guest_on "$address" hostname) == "$demo" ]] || fail "the guest is not called $demo"
        guest_on "$address" 'dd if=/dev/urandom of=/root/file bs=4096 count=64 2>/dev/null; sync; sha256sum </root/file' >"$dir/sum"
        detail="256 KiB written, sha256 $(cut -c 1-12 "$dir/sum")…"
}

restart() {
        local before
        before=$(guest_on "$address" cat /proc/sys/kernel/random/boot_id)
        wherry restart "$demo" --json >"$dir/restart.json"
        wait_until 90 booted_since "$before" || fail "no ssh at $address after the restart"
        [[ $(guest_on "$address" 'sha256sum </root/file') == "$(<"$dir/sum")" ]] || fail "the file has changed"
        here=$(instance_host "$demo")
        detail="another boot, the file's sum is the same"
}

# booted_since ID: the guest answers, and its boot is another than ID.
booted_since() {
        local now
        now=$(guest_ssh 2 "$address" cat /proc/sys/kernel/random/boot_id) && [[ $now != "$1" ]]
}

install_iso() {
        local at at_host root
        wherry run installer --name installed --memory 256M --disk 1G --ssh-key "$dir/key.pub" --json >"$dir/installed.json"
        at=$(instance_address installed)
        # ssh is only in the installed system: the installer has none.
        wait_until 120 guest_answers "$at" || fail "no ssh at $at: not installed"
        ! guest_on "$at" 'grep -qw install /proc/cmdline' || fail "what answers is the installer"
        # shellcheck disable=SC2016 # the guest's awk gets it
        root=$(guest_on "$at" 'awk "\$2 == \"/\" { print \$1 }" /proc/mounts' | tail -n 1)
        [[ $root == /dev/vda1 ]] || fail "its root file system is $root"
        # Its disks may take the store a while; only its guest is in the way of what follows.
        at_host=$(instance_host installed)
        wherry rm installed --no-wait --json >/dev/null
        wait_until 30 no_qemu "$at_host" installed || fail "$at_host still runs the QEMU of installed"
        detail="empty disk installed, restarted, booted from $root, ssh at $at"
}

# Live migration under a writer, told by libvirt's own figures of the job as the destination keeps them.
migrate() {
        local acked line move boot job sent disk gap
        boot=$(guest_on "$address" cat /proc/sys/kernel/random/boot_id)
        writer_start "$address"
        wait_until 30 acked_beyond 20 || fail "the writer in the guest does not get on"
        there=$here
        line=$(wc -l <"$dir/acked")
        wherry migrate "$demo" --json >"$dir/migrate.json"
        here=$(instance_host "$demo")
        [[ $here != "$there" ]] || fail "it is still on $there"
        qemu_pid "$here" "$demo" >/dev/null || fail "$here has no QEMU of it"
        wait_until 5 no_qemu "$there" || fail "its QEMU on $there is still there"
        acked=$(acked_last)
        wait_until 20 acked_beyond $((acked + 20)) || fail "the writer did not go on after the move"
        writer_lives || fail "the ssh session did not survive the move"
        [[ $(guest_on "$address" cat /proc/sys/kernel/random/boot_id) == "$boot" ]] || fail "the guest was booted anew"
        log_check "$address" "$(acked_last)"
        move=$(instance_field "$demo" '.status.move | "\(.total_ms) \(.downtime_ms)"')
        figure migrate_s "$(seconds "${move% *}")"
        figure downtime_ms "${move#* }"
        gap=$(acked_gap_ms "$line")
        job=$(lab exec "$here" virsh -q domjobinfo --completed --keep-completed --rawstats "wherry-$demo")
        storage_was_not_copied "$job"
        detail="$there to $here in ${steps_figure[migrate_s]} s, downtime ${steps_figure[downtime_ms]} ms, writer's longest wait $gap ms,"
        detail+=" $verified writes all there, $((sent >> 20)) MiB sent of a guest with a $((disk >> 20)) MiB disk, none of it the disk"
}

no_qemu() {
        ! qemu_pid "$1" "${2:-$demo}"
}

# storage_was_not_copied JOB: libvirt was asked for no copy (its job counts no disk bytes at all), and what crossed is less than the
# disk. Sets `sent` and `disk`.
storage_was_not_copied() {
        local copied memory
        sent=$(job_number "$1" memory_processed)
        copied=$(job_number "$1" 'disk_(total|processed)')
        memory=$(job_number "$1" memory_total)
        disk=$(instance_field "$demo" .disk)
        ((memory > 0)) || fail "libvirt has no figures of the job: $1"
        ((copied == 0)) || fail "libvirt copied $copied bytes of storage"
        ((sent < disk)) || fail "$sent bytes crossed for a disk of $disk"
}

# job_number JOB REGEX: the sum of the figures by such a name; a name that is not there counts nothing.
job_number() {
        awk -F '[=: ]+' -v name="^($2)\$" '{ sub(/^ +/, "") } $1 ~ name { sum += $2 } END { printf "%d", sum }' <<<"$1"
}

# From the moment that the guest's QEMU is dead, with all of its host, to the moment that a vCPU of it runs on another host.
failover() {
        local old begin acked ssh_ms
        there=$here
        old=$(qemu_pid "$there" "$demo") || fail "$there has no QEMU of it"
        lab exec "$there" virsh -q dumpxml --security-info "wherry-$demo" >"$dir/saved.xml"
        acked=$(acked_last)
        wait_until 10 acked_beyond "$acked" || fail "the writer has stopped before the power went"
        lab power-off "$there" >/dev/null &
        until process_gone "$old"; do
                sleep 0.01
        done
        begin=$(now_ms)
        runs_elsewhere 30 || fail "it does not run again after 30 s"
        figure failover_s "$(seconds $(($(now_ms) - begin)))"
        wait $!
        writer_stop
        acked=$(acked_last)
        wait_until 90 guest_answers "$address" || fail "no ssh at $address"
        ssh_ms=$(($(now_ms) - begin))
        log_check "$address" "$acked"
        [[ $(guest_on "$address" 'sha256sum </root/file') == "$(<"$dir/sum")" ]] || fail "the file has changed"
        wait_until 10 record_names "$here" || fail "the record does not say that it runs on $here: $(wherry show "$demo" 2>&1)"
        detail="$there off, runs on $here after ${steps_figure[failover_s]} s, ssh after $(seconds "$ssh_ms") s;"
        detail+=" $acked acknowledged, $verified on the disk"
}

# runs_elsewhere SECONDS: a vCPU of it has run on another host than `there`; sets `here`.
runs_elsewhere() {
        local deadline=$(($(now_ms) + $1 * 1000)) n pid
        while (($(now_ms) < deadline)); do
                for ((n = 1; n <= hosts; n++)); do
                        [[ h$n != "$there" ]] || continue
                        if pid=$(qemu_pid "h$n" "$demo") && qemu_runs "$pid"; then
                                here=h$n
                                return
                        fi
                done
                sleep 0.02
        done
        return 1
}

record_names() {
        [[ $(instance_field "$demo" '.status | "\(.state) h\(.host)"') == "running $1" ]]
}

# The old host comes back: it joins as new, and nothing starts the instance there behind hostd's back.
fenced() {
        local epoch
        epoch=$(host_epoch "$there")
        lab power-on "$there" >/dev/null
        wait_until 30 host_joined "$there" "$epoch" || fail "$there has not joined again: $(wherry host list 2>&1)"
        no_qemu "$there" || fail "$there runs a QEMU of it"
        create_is_refused
        no_qemu "$there" || fail "the refused QEMU on $there is still there"
        record_names "$here" || fail "the instance does not run on $here any more"
        guest_on "$address" 'fsync-writer /root/log --count 5' >/dev/null || fail "the instance cannot write any more"
        log_check "$address" $((verified + 5))
        detail="$there is back with epoch $(host_epoch "$there") after $epoch; virsh create there: \"$said\""
}

# `virsh create` of the saved XML on the old host, by somebody who knows nothing of hostd. Sets `said`, our driver's refusal.
# In a directory the old start's files are gone, which libvirt sees before it asks anybody; so there the paths are put right
# first, as a determined administrator would.
create_is_refused() {
        local now
        if [[ $store == dir ]]; then
                virsh_create && fail "virsh create on $there was not refused"
                now=$(instance_field "$demo" .start.id)
                sed -i "s#/starts/../[0-9a-f-]*/#/starts/${now:0:2}/$now/#" "$dir/saved.xml"
        fi
        virsh_create && fail "virsh create on $there was not refused"
        [[ $said == *'wherry: '* ]] || fail "virsh create failed on $there, and not by our driver: $said"
        said=$(sed -n 's/.*\(wherry: .*\)/\1/p' <<<"$said" | head -n 1)
}

virsh_create() {
        said=$(lab exec "$there" virsh create /dev/stdin <"$dir/saved.xml" 2>&1)
}

host_epoch() {
        wherry host show "$1" --json | jq -r .epoch
}

host_joined() {
        [[ $(wherry host show "$1" --json | jq -r ".alive and .state == \"up\" and .epoch > $2") == true ]]
}
