# SPDX-License-Identifier: Apache-2.0
# The Debian guest: a minimal Debian 12 with systemd, openssh and cloud-init. Sourced by scripts/guest-images.
# shellcheck shell=bash

readonly DEBIAN_MIB=2048
readonly DEBIAN_PACKAGES=(linux-image-cloud-amd64 initramfs-tools lz4 systemd-sysv systemd-resolved udev dbus openssh-server
        cloud-init cloud-guest-utils sudo e2fsprogs fdisk iproute2 iputils-ping ca-certificates less)

debian_inputs() {
        cat "$GUEST"/lib.sh "$GUEST"/debian.sh "$GUEST"/debian/*
        package_versions linux-image-cloud-amd64 grub-pc-bin systemd openssh-server cloud-init
}

# The settings of the initramfs go in before the packages are configured, so that it is made once and small.
# shellcheck disable=SC2016 # $1 is mmdebstrap's, the root it works on
debian_root() {
        local root=$1 include
        include=$(IFS=,; echo "${DEBIAN_PACKAGES[*]}")
        mmdebstrap --quiet --mode=root --variant=minbase --components=main --include="$include" \
                --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
                --essential-hook="cp '$GUEST/debian/initramfs.conf' \"\$1/etc/initramfs-tools/conf.d/guest.conf\"" \
                --essential-hook="cp '$GUEST/debian/initramfs-modules' \"\$1/etc/initramfs-tools/modules\"" \
                --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
                --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-confold --aptopt='Acquire::Languages "none"' \
                bookworm "$root" >&2
}

# Everything that must differ between two guests of one image is left to the first boot.
debian_settings() {
        local root=$1
        install -D -m 0644 "$GUEST/debian/cloud.cfg" "$root/etc/cloud/cloud.cfg.d/90-guest.cfg"
        install -D -m 0644 "$GUEST/debian/grub.cfg" "$root/boot/grub/grub.cfg"
        echo 'LABEL=wherry-debian / ext4 rw,errors=remount-ro 0 1' >"$root/etc/fstab"
        echo debian >"$root/etc/hostname"
        echo '127.0.0.1 localhost' >"$root/etc/hosts"
        rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf"
        ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
        : >"$root/etc/machine-id"
        systemctl --root="$root" --quiet enable systemd-networkd.service
        systemctl --root="$root" --quiet disable apt-daily.timer apt-daily-upgrade.timer
}

build_debian() {
        local work=$1 out=$2 root=$1/debian
        say "debian: mmdebstrap"
        debian_root "$root"
        debian_settings "$root"
        grub_core "$work/debian-core.img" /boot/grub "$GUEST/debian/grub-start.cfg" \
                part_msdos ext2 search_label linux16 normal configfile
        say "debian: disk image"
        make_disk "$work/debian.raw" "$DEBIAN_MIB" "$root" wherry-debian "$work/debian-core.img"
        qemu-img convert -q -c -f raw -O qcow2 "$work/debian.raw" "$out"
        rm -rf "$root" "$work/debian.raw"
}
