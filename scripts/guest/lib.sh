# SPDX-License-Identifier: Apache-2.0
# Shared by the guest builders: packages, ELF closures, the boot loader and the disk image. Sourced by scripts/guest-images.
# Nothing here mounts anything or needs a loop device: file systems are filled by mke2fs -d, and GRUB's two pieces are put
# at their places by dd, so that a builder that was killed leaves files in its working folder and nothing else.
# shellcheck shell=bash

# The boot code: GRUB's boot.img in the MBR loads core.img from the sectors right behind it, where no partition lies.
readonly GRUB_DIR=/usr/lib/grub/i386-pc
readonly ROOT_START=2048 # first sector of the only partition; core.img has the 1 MiB before it

say() {
        printf 'guest-images: %s\n' "$*" >&2
}

die() {
        say "$*"
        exit 1
}

# What is installed on the build host, so that nothing fails half-way through: COMMAND:PACKAGE pairs.
need_commands() {
        local pair missing=()
        for pair in "$@"; do
                command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
        done
        ((${#missing[@]} == 0)) || die "packages missing on this machine: ${missing[*]} (apt-get install them, or run scripts/setup)"
        [[ -f $GRUB_DIR/boot.img ]] || die "packages missing on this machine: grub-pc-bin (apt-get install it, or run scripts/setup)"
}

# Candidate versions of packages, one "NAME VERSION" a line. They belong to the cache's key: a new kernel makes a new image.
package_versions() {
        apt-cache policy "$@" | awk '/^[^ ].*:$/ { name = $1 } /^  Candidate:/ { print name, $2 }'
}

# The package that a metapackage stands for, e.g. linux-image-cloud-amd64 → linux-image-6.1.0-NN-cloud-amd64.
first_dependency() {
        apt-cache depends --no-recommends --no-suggests "$1" | awk '/Depends:/ && $2 !~ /^</ { print $2; exit }'
}

# fetch_packages DIR PACKAGE...: downloads and unpacks them into DIR (no maintainer script is run).
fetch_packages() {
        local dir=$1 deb
        shift
        mkdir -p "$dir.debs" "$dir"
        (cd "$dir.debs" && apt-get -q -o APT::Sandbox::User=root download "$@" >/dev/null) ||
                die "cannot download $* (apt-get update, and is a Debian mirror in reach?)"
        for deb in "$dir.debs"/*.deb; do
                dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir" --no-same-owner --keep-directory-symlink
        done
}

# copy_program STAGE ROOT PATH [TARGET]: copies an ELF program of STAGE and every library it needs, all from STAGE.
copy_program() {
        local stage=$1 root=$2 path=$3 target=${4:-$3}
        install -D -m 0755 "$stage/$path" "$root/$target"
        copy_libraries "$stage" "$root" "$stage/$path"
}

copy_libraries() {
        local stage=$1 root=$2 object=$3 name lib dir
        readelf -d "$object" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | while read -r name; do
                [[ $name != ld-linux-x86-64.so.2 ]] || continue
                [[ ! -e $root/lib/x86_64-linux-gnu/$name ]] || continue
                for dir in lib usr/lib; do
                        lib=$stage/$dir/x86_64-linux-gnu/$name
                        [[ -e $lib ]] || continue
                        install -D -m 0644 "$lib" "$root/lib/x86_64-linux-gnu/$name"
                        copy_libraries "$stage" "$root" "$lib"
                        continue 2
                done
                die "$object needs $name, which is in none of the packages fetched"
        done
}

# grub_core OUT PREFIX CONFIG MODULE...: a core image that runs the given start configuration. The configurations use linux16, not
# linux: there GRUB moves the kernel byte by byte before it starts it, which takes 1.3 s in an emulated CPU.
grub_core() {
        local out=$1 prefix=$2 config=$3
        shift 3
        grub-mkimage -O i386-pc -d "$GRUB_DIR" -p "$prefix" -c "$config" -o "$out" biosdisk "$@"
}

# make_disk OUT.raw SIZE_MIB ROOT_DIR LABEL CORE.img: a whole disk with one bootable ext4 partition filled from ROOT_DIR.
make_disk() {
        local out=$1 mib=$2 root=$3 label=$4 core=$5
        (($(stat -c %s "$core") < (ROOT_START - 1) * 512)) || die "boot loader does not fit before the first partition"
        truncate -s "${mib}M" "$out"
        printf 'label: dos\nstart=%d, type=83, bootable\n' "$ROOT_START" | sfdisk -q "$out"
        # GRUB 2.06 does not know the checksum seed; the file system may grow a lot later, hence the reserved descriptors.
        mke2fs -q -F -t ext4 -b 4096 -O '^metadata_csum_seed,^orphan_file' -E "offset=$((ROOT_START * 512)),resize=16G" -m 1 \
                -L "$label" -d "$root" "$out" $(((mib - 1) * 1024))k 2>&1 | sed '/^$/d' >&2
        dd if="$GRUB_DIR/boot.img" of="$out" bs=440 count=1 conv=notrunc status=none
        dd if="$core" of="$out" bs=512 seek=1 conv=notrunc status=none
}
