# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
#
# Which system is on an image: found on the real daemon by its real helper.

# installer VOLUME FILE: an ISO that a BIOS would boot
installer() {
        rm -rf tree && mkdir tree && head -c 2048 /dev/zero >tree/boot.img
        xorriso -as mkisofs -quiet -V "$1" -b boot.img -no-emul-boot -boot-load-size 4 -o "$2" tree 2>/dev/null
}
# system_disk RELEASE FILE: a disk with one ext4 partition that holds this os-release
system_disk() {
        rm -rf root "$2" && mkdir -p root/etc root/bin
        printf '%b' "$1" >root/etc/os-release
        cp /bin/true root/bin/sh
        truncate -s 40M "$2"
        echo 'start=2048, type=83, bootable' | sfdisk -q --label dos "$2"
        mke2fs -q -F -t ext4 -d root -E offset=1048576 "$2" 38M 2>/dev/null
}

story_an_installer_tells_its_system() {
        installer 'Debian 11.5.0 amd64 n' debian.iso
        w image add debian.iso --name inst --json && want 0
        w image show inst --json && want 0
        equal system "$(field '.os_distro + " " + .os_version + " " + .os_type')" "debian 11 linux"
        equal architecture "$(field .architecture)" x86_64
        equal firmware "$(field .hw_firmware_type)" bios
        equal needs "$(field '"\(.min_ram) \(.min_disk)"')" "1024 10"
        equal detected "$(field '.detected.name + " " + .detected.from')" "Debian 11 media"
        w image list && want 0 "debian 11"
        w image show inst && want 0 "Debian 11 (media), x86_64, bios"
        w image show debian:11 --json && want 0 && equal alias "$(field .name)" inst
        # the clients that people have see it, and take it
        as root openstack image show inst -f json && want 0
        equal "openstack's os_distro" "$(field .properties.os_distro)" debian
        as root openstack image list --property os_distro=debian -f value -c Name && want 0 inst

        # what it needs is asked for
        w run inst --name low --memory 512M && want 1 "1024 MiB (min_ram)"
        w run inst --name low --disk 1G && want 1 "10 GiB (min_disk)"
        # and can be corrected
        w image set inst --os ubuntu --version 99 --min-ram 100M --min-disk 0 --property architecture=aarch64 && want 0
        w image show inst --json && want 0
        equal corrected "$(field '"\(.os_distro) \(.os_version) \(.architecture) \(.min_ram) \(.min_disk)"')" "ubuntu 99 aarch64 100 0"
        equal "still told" "$(field .detected.name)" "Debian 11"
        call root PATCH "/v2/images/$(field .id)" -H 'Content-Type: application/json' \
                -d '[{"op":"replace","path":"/detected","value":{}}]'
        equal "writing what was detected" "$status" 403
        w image rm inst --now && want 0
}

story_a_disk_tells_its_system() {
        local id
        system_disk 'ID=ubuntu\nVERSION_ID="22.04"\n' sys.raw
        qemu-img convert -f raw -O qcow2 sys.raw sys.qcow2
        w image add sys.raw --name sys && want 0
        w image show sys --json && want 0
        equal system "$(field '.os_distro + " " + .os_version + " " + .detected.from')" "ubuntu 22.04 os-release"
        equal disk "$(field .min_disk)" 0
        # what the uploader says stays; and the upload is of another kind, staged, and in qcow2
        call alice POST /v2/images -d '{"name":"staged-sys","disk_format":"qcow2","os_distro":"mine","os_version":"1"}'
        equal created "$status" 201
        id=$(field .id)
        call alice PUT "/v2/images/$id/stage" -H 'Content-Type: application/octet-stream' --data-binary @sys.qcow2
        equal staged "$status" 204
        call alice POST "/v2/images/$id/import" -d '{"method":{"name":"glance-direct"}}'
        equal imported "$status" 202
        call alice GET "/v2/images/$id"
        equal system "$(field '"\(.status) \(.os_distro) \(.os_version) \(.architecture) \(.detected.distro)"')" \
                "active mine 1 $(uname -m) ubuntu"
        call alice DELETE "/v2/images/$id?purge=true"
        w image rm sys --now && want 0
        # without a server
        t "$wherry" image inspect sys.qcow2 --json && want 0
        equal inspect "$(field '.detected.distro + " " + .detected.version')" "ubuntu 22.04"
        t "$wherry" image inspect sys.qcow2 && want 0 "22.04"
}

# uefi_disk FILE: a disk with nothing but an EFI system partition and its loader
uefi_disk() {
        rm -f efi "$1"
        truncate -s 8M efi && mkfs.fat efi >/dev/null && mmd -i efi ::/EFI ::/EFI/BOOT
        echo x >BOOTX64.EFI && mcopy -i efi BOOTX64.EFI ::/EFI/BOOT/
        truncate -s 16M "$1"
        echo 'start=2048, size=16384, type=uefi' | sfdisk -q --label gpt "$1"
        dd if=efi of="$1" bs=1M seek=1 conv=notrunc status=none
}

# Hosts start guests by BIOS: said at once, not by a guest that never comes up. There are no hosts here, which is the next error.
story_an_image_that_boots_by_uefi_only_is_not_run() {
        local id iso
        uefi_disk uefi.raw
        w image add uefi.raw --name modern --json && want 0
        id=$(field .id)
        w image show modern --json && want 0
        equal firmware "$(field .hw_firmware_type)" uefi
        w run modern --name web && want 1 "image $id (modern) boots by UEFI only (its property hw_firmware_type is \"uefi\")"
        grep -qF "wherry image set $id --property hw_firmware_type=bios" err || fail "no advice: $(cat err)"
        w ls --quiet && want 0 && equal instances "$(cat out)" ""
        w image set modern --property hw_firmware_type=bios && want 0
        w run modern --name web && want 1 host
        ! grep -q UEFI err || fail "corrected, and still: $(cat err)"
        w image set modern --unset hw_firmware_type && want 0 # not known
        w run modern --name web && want 1 host
        ! grep -q UEFI err || fail "not known, and still: $(cat err)"
        # as somebody says of an installer of which nothing was found
        mkdir -p bare && echo x >bare/file && xorriso -as mkisofs -quiet -V BARE -o bare.iso bare 2>/dev/null
        w image add bare.iso --name bare --json && want 0
        iso=$(field .id)
        w image show bare --json && equal firmware "$(field '.hw_firmware_type // "unknown"')" unknown
        w run bare --name web && want 1 host
        w image set bare --property hw_firmware_type=uefi && want 0
        w run bare --name web && want 1 "image $iso (bare) boots by UEFI only"
        w image rm modern --now && want 0
        w image rm bare --now && want 0
}

# The helper can be stopped, killed and hungry: the image is active, and nothing is known of it.
story_without_the_helper_an_import_goes_on() {
        local watcher
        system_disk 'ID=debian\nVERSION_ID=11\n' sys.raw
        # whoever appears is killed at once
        (while :; do pkill -KILL -P "${pids[one]}" -x wherry-osinfo; sleep 0.01; done) &
        watcher=$!
        w image add sys.raw --name shot --json && want 0
        kill "$watcher"
        wait "$watcher" 2>/dev/null
        equal status "$(field .status)" active
        w image show shot --json && want 0
        equal system "$(field '.os_distro // "unknown"')" unknown
        grep -q 'its system is not known: Killed' one.log || fail "imaged does not say why"
        w image rm shot --now && want 0

        # stopped, it is given up after its time
        (while :; do pkill -STOP -P "${pids[one]}" -x wherry-osinfo; sleep 0.01; done) &
        watcher=$!
        w image add sys.raw --name frozen --json && want 0
        kill "$watcher"
        wait "$watcher" 2>/dev/null
        equal status "$(field .status)" active
        grep -q 'its system is not known: the helper did not answer in time' one.log || fail "imaged does not say why"
        pgrep -P "${pids[one]}" -x wherry-osinfo && fail "a helper is left"
        w image rm frozen --now && want 0

        # one whose file system asks for more memory than there is
        printf '\0\0\0\200' | dd of=sys.raw bs=1 seek=$((1048576 + 1024)) conv=notrunc status=none              # inodes
        printf '\0\0\0\0' | dd of=sys.raw bs=1 seek=$((1048576 + 1024 + 4)) conv=notrunc status=none            # blocks
        printf '\20\0\0\0' | dd of=sys.raw bs=1 seek=$((1048576 + 1024 + 0x150)) conv=notrunc status=none       # high half
        printf '\0\1\0\0\0\1\0\0\10\0\0\0' | dd of=sys.raw bs=1 seek=$((1048576 + 1024 + 32)) conv=notrunc status=none # a group's
        w image add sys.raw --name hungry --json && want 0
        equal status "$(field .status)" active
        equal system "$(field '.os_distro // "unknown"')" unknown
        w image rm hungry --now && want 0
}
