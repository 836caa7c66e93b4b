# SPDX-License-Identifier: Apache-2.0
# The small guest: Debian's cloud kernel, busybox and dropbear on one ext4 partition, as a disk image and as an ISO that installs
# it. Sourced by scripts/guest-images.
# shellcheck shell=bash

readonly SMALL_MIB=128
readonly SMALL_PACKAGES=(busybox-static dropbear-bin libtomcrypt1 libtommath1 libgmp10 zlib1g libcrypt1 libc6
        e2fsprogs libext2fs2 libcom-err2 libblkid1 libuuid1)

# Kernel modules by the moment they are loaded; the first two lists are in the initramfs. Quickest way to ssh: the root's come
# first, alone. The cloud kernel has no AHCI, so CD-ROMs are found on virtio-scsi and on IDE.
readonly MODULES_ROOT=(virtio_pci virtio_blk crc32c_generic ext4)
readonly MODULES_CDROM=(virtio_scsi ata_piix sr_mod sd_mod isofs nls_utf8)
readonly MODULES_LATER=(virtio_net virtio-rng button evdev virtio_balloon)

small_inputs() {
        cat "$GUEST"/lib.sh "$GUEST"/small.sh "$GUEST"/fsync-writer.c "$GUEST"/small/*
        package_versions linux-image-cloud-amd64 grub-pc-bin "${SMALL_PACKAGES[@]}"
}

# modules_copy STAGE VERSION DEST LIST MODULE...: copies modules with all they depend on, flat, and writes their order to DEST/LIST.
modules_copy() {
        local stage=$1 version=$2 dest=$3 list=$4 path
        shift 4
        mkdir -p "$dest"
        modprobe -S "$version" -d "$stage" -a --show-depends "$@" | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
                while read -r path; do
                        [[ ! -e $dest/${path##*/} ]] || continue
                        cp "$path" "$dest/"
                        echo "${path##*/}"
                done >"$dest/$list"
}

small_modules() {
        local stage=$1 version=$2 dest=$3
        modules_copy "$stage" "$version" "$dest" root "${MODULES_ROOT[@]}"
        modules_copy "$stage" "$version" "$dest" cdrom "${MODULES_CDROM[@]}"
}

small_initramfs() {
        local stage=$1 version=$2 out=$3 dir=$4
        mkdir -p "$dir"/{bin,dev,proc,sys,mnt,iso}
        cp "$stage/bin/busybox" "$dir/bin/busybox"
        install -m 0755 "$GUEST/small/init" "$dir/init"
        install -m 0755 "$GUEST/small/install" "$dir/install"
        small_modules "$stage" "$version" "$dir/modules"
        (cd "$dir" && find . -print0 | LC_ALL=C sort -z | cpio -o -0 -H newc -R 0:0 --quiet) | gzip -9n >"$out"
}

small_programs() {
        local stage=$1 root=$2 program
        cp "$stage/bin/busybox" "$root/bin/busybox"
        # busybox's own list of its names; it runs on the build host, which has the guest's architecture.
        for program in $("$stage/bin/busybox" --list); do
                [[ $program == busybox ]] || ln -s /bin/busybox "$root/bin/$program"
        done
        for program in /usr/sbin/dropbear /usr/bin/dropbearkey /sbin/resize2fs /sbin/mke2fs; do
                rm -f "$root/bin/${program##*/}"
                copy_program "$stage" "$root" "$program" "/sbin/${program##*/}"
        done
        install -D -m 0755 "$stage/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$root/lib64/ld-linux-x86-64.so.2"
        gcc -std=gnu11 -D_GNU_SOURCE -static -Os -s -Wall -Wextra -Werror -o "$root/bin/fsync-writer" "$GUEST/fsync-writer.c"
}

small_root() {
        local stage=$1 version=$2 root=$3
        mkdir -p "$root"/{bin,boot/grub,dev,etc/acpi/PWRF,etc/dropbear,lib/modules,mnt,proc,root/.ssh,run,sbin,sys,tmp,usr,var/log}
        ln -s ../bin "$root/usr/bin"
        ln -s ../sbin "$root/usr/sbin"
        ln -s ../run "$root/var/run"
        small_programs "$stage" "$root"
        small_modules "$stage" "$version" "$root/lib/modules"
        modules_copy "$stage" "$version" "$root/lib/modules" later "${MODULES_LATER[@]}"
        install -m 0755 "$GUEST"/small/{rcS,rcK,seed,network,udhcpc-event} "$root/sbin/"
        install -m 0755 "$GUEST/small/power-button" "$root/etc/acpi/PWRF/00000080"
        install -m 0644 "$GUEST/small/inittab" "$root/etc/inittab"
        echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
        echo 'root:*:19000:0:99999:7:::' >"$root/etc/shadow"
        echo 'root:x:0:' >"$root/etc/group"
        echo /bin/sh >"$root/etc/shells"
        echo '127.0.0.1 localhost' >"$root/etc/hosts"
        chmod 0600 "$root/etc/shadow"
        chmod 0700 "$root/root" "$root/root/.ssh"
        chmod 1777 "$root/tmp"
        cp "$stage/boot/vmlinuz-$version" "$root/boot/vmlinuz"
        small_initramfs "$stage" "$version" "$root/boot/initrd" "$root.initramfs"
}

# Every boot loader's configuration says no_timer_check: an emulated guest whose host is busy gets its first timer interrupts late, and the
# kernel takes that for broken hardware and panics ("IO-APIC + timer doesn't work"). On KVM it leaves the check out by itself.

# small_tree WORK: makes WORK/root, the system's tree with kernel and boot loader inside, once for both kinds of image.
small_tree() {
        local work=$1 kernel version
        [[ ! -d $work/root ]] || return 0
        kernel=$(first_dependency linux-image-cloud-amd64)
        version=${kernel#linux-image-}
        say "small: packages ($kernel, busybox, dropbear)"
        fetch_packages "$work/stage" "$kernel" "${SMALL_PACKAGES[@]}"
        [[ -d $work/stage/lib/modules/$version ]] || die "$kernel holds no modules for $version"
        depmod -b "$work/stage" "$version"
        small_root "$work/stage" "$version" "$work/root"
        grub_core "$work/root/boot/grub/core.img" /boot/grub "$GUEST/small/grub-disk.cfg" part_msdos ext2 search_label linux16
        cp "$GRUB_DIR/boot.img" "$work/root/boot/grub/boot.img"
        chown -R 0:0 "$work/root"
}

build_small() {
        local work=$1 out=$2
        small_tree "$work"
        say "small: disk image"
        make_disk "$work/small.raw" "$SMALL_MIB" "$work/root" wherry-small "$work/root/boot/grub/core.img"
        qemu-img convert -q -f raw -O qcow2 "$work/small.raw" "$out"
}

# The ISO's tree is the system's tree: the installer in the initramfs copies it to the disk as it stands.
build_iso() {
        local work=$1 out=$2
        small_tree "$work"
        say "iso: installation ISO"
        grub_core "$work/cd-core.img" /boot/grub "$GUEST/small/grub-iso.cfg" iso9660 search_label linux16
        mkdir -p "$work/el-torito"
        cat "$GRUB_DIR/cdboot.img" "$work/cd-core.img" >"$work/el-torito/eltorito.img"
        xorriso -as mkisofs -quiet -o "$out" -V WHERRY_SMALL -R -J -joliet-long -b boot/grub/eltorito.img -no-emul-boot \
                -boot-load-size 4 -boot-info-table -graft-points "boot/grub/eltorito.img=$work/el-torito/eltorito.img" \
                "/=$work/root"
}
