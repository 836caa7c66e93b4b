# SPDX-License-Identifier: Apache-2.0
# The Debian guest: a minimal Debian 12 with systemd, openssh and cloud-init. Sourced by scripts/guest-images.
# shellcheck shell=bash

readonly DEBIAN_MIB=2048
readonly DEBIAN_PACKAGES=(linux-image-cloud-amd64 initramfs-tools systemd-sysv udev dbus openssh-server cloud-init
        cloud-guest-utils e2fsprogs netplan.io iproute2 iputils-ping isc-dhcp-client ca-certificates less nano)

debian_inputs() {
        cat "$GUEST"/lib.sh "$GUEST"/debian.sh "$GUEST"/debian/*
        package_versions grub-pc-bin "${DEBIAN_PACKAGES[@]}"
}

# Settings go in before the packages are configured: the initramfs is made once, with what this virtual hardware needs.
debian_root() {
        local root=$1 IFS=,
        mmdebstrap --quiet --mode=root --variant=minbase --components=main --include="${DEBIAN_PACKAGES[*]}" \
                --essential-hook="copy-in '$GUEST/debian/initramfs.conf' /tmp" \
                --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" && mv "$1/tmp/initramfs.conf" "$1/etc/initramfs-tools/conf.d/guest.conf"' \
                --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
                --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Languages "none"' \
                bookworm "$root" >&2
}

build_debian() {
        local work=$1 out=$2 root=$work/debian
        say "debian: mmdebstrap"
        debian_root "$root"
        install -D -m 0644 "$GUEST/debian/cloud.cfg" "$root/etc/cloud/cloud.cfg.d/90-guest.cfg"
        install -D -m 0644 "$GUEST/debian/grub.cfg" "$root/boot/grub/grub.cfg"
        echo 'LABEL=wherry-debian / ext4 rw,errors=remount-ro,x-systemd.growfs 0 1' >"$root/etc/fstab"
        echo debian >"$root/etc/hostname"
        rm -f "$root"/etc/ssh/ssh_host_* "$root"/var/lib/dbus/machine-id "$root"/var/cache/apt/*.bin
        : >"$root/etc/machine-id"
        ln -sf /lib/systemd/system/serial-getty@.service \
                "$root/etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service"
        grub_core "$work/debian-core.img" '(hd0,msdos1)/boot/grub' "$GUEST/debian/grub-start.cfg" \
                part_msdos ext2 search_label linux16 normal configfile echo test
        say "debian: disk image"
        make_disk "$work/debian.raw" "$DEBIAN_MIB" "$root" wherry-debian "$work/debian-core.img"
        qemu-img convert -q -c -f raw -O qcow2 "$work/debian.raw" "$out"
        rm -rf "$root" "$work/debian.raw"
}
