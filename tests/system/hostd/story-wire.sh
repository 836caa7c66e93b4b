# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # here, there, dir and TOP are the others'
#
# What a live migration shows to who listens on the network.

# remembers TEXT: the guest has it thousands of times in its memory. (ssh encrypts it on the way there.)
remembers() {
        address=$(instance_address web)
        soon "ssh" 180 guest_answers "$address"
        guest_on "$address" "umount /mnt/known; mkdir -p /mnt/known && mount -t tmpfs known /mnt/known &&
                yes $1 | head -c 4000000 >/mnt/known/text" 2>/dev/null
}

# heard_move TEXT: moves it to $there while its host's cable is listened to; sets `bytes`, and `hits`: how often TEXT was heard.
heard_move() {
        local listener
        ip netns exec wl-net "$TOP/tests/system/hostd/wire.py" "$here-network" "$1" >"$dir/heard" &
        listener=$!
        soon "the listener is ready" 20 grep -q ready "$dir/heard"
        moves_to "$there"
        kill "$listener"
        wait "$listener"
        read -r bytes hits < <(tail -n 1 "$dir/heard")
}

# migration_tls yes|no HOST...: as an administrator sets it.
migration_tls() {
        local value=$1 n
        shift
        for n; do
                sed -i "/^migration_tls/d; s/^\[host\]/&\nmigration_tls = $value/" "/run/wherry-lab/$n/hostd.conf"
                lab stop "$n" hostd >/dev/null
                daemon_starts "$n" hostd
        done
        soon "both hosts up" 30 hosts_up
}

story_nobody_on_the_network_reads_what_moves() {
        local text=known-$RANDOM$RANDOM$RANDOM
        web_runs
        remembers "$text"
        heard_move "$text"
        ((bytes > 4000000)) || fail "the listener has heard $bytes bytes only"
        [ "$hits" = 0 ] || fail "$hits times in $bytes bytes"
        # In clear it would have been heard.
        migration_tls no h1 h2
        web_runs
        heard_move "$text"
        migration_tls yes h1 h2
        ((hits > 1000)) || fail "in clear it was heard $hits times only: the listener proves nothing"
}

story_hosts_that_mean_different_streams_say_so() {
        web_runs
        migration_tls no "$there"
        refused "migration_tls = no, the source's yes" wherry migrate web "$there"
        migration_tls yes "$there"
        migration_tls no "$here"
        refused "hostd sends them in clear" wherry migrate web "$there"
        migration_tls yes "$here"
        stays 1 runs_on web "$here"
        moves_to "$there"
}

# without HOST FILE COMMAND...: while that certificate is away.
without() {
        local file=/var/tmp/wherry-lab/$1/etc/pki/qemu/$2
        shift 2
        mv "$file" "$file.away"
        "$@"
        mv "$file.away" "$file"
}

story_a_certificate_that_is_missing_is_named() {
        local file key
        web_runs
        for file in ca-cert server-cert server-key; do
                without "$there" "$file.pem" refused "host $there cannot take it: /etc/pki/qemu/$file.pem: No such file" \
                        wherry migrate web "$there"
        done
        for file in ca-cert client-cert client-key; do
                without "$here" "$file.pem" refused "cannot encrypt the migration: /etc/pki/qemu/$file.pem: No such file" \
                        wherry migrate web "$there"
        done
        key=/var/tmp/wherry-lab/$there/etc/pki/qemu/server-key.pem
        chmod 600 "$key"
        refused "server-key.pem: QEMU's user [0-9]* may not read it" wherry migrate web "$there"
        chmod 640 "$key"
        stays 1 runs_on web "$here"
        moves_to "$there"
}
