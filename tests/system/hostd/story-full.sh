# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015
#
# A store that is full: a file system of its own with little room, on rbd a quota of the pool.

full_ceph() {
        lab exec store ceph --conf /var/tmp/wherry-lab/store/ceph.conf --connect-timeout 20 "$@" >/dev/null 2>&1
}

full_folder() {
        [ "$store" = dir ] && echo /var/tmp/wherry-lab/store || echo /var/tmp/wherry-lab/store/export
}

full_begin() {
        if [ "$store" = rbd ]; then
                full_ceph osd pool set-quota wherry max_bytes 1
        else
                dd if=/dev/zero of="$(full_folder)/filler" bs=64k >/dev/null 2>&1 || :
        fi
}

full_end() {
        if [ "$store" = rbd ]; then
                full_ceph osd pool set-quota wherry max_bytes 0
        else
                rm -f "$(full_folder)/filler"
        fi
}

status_says() {
        [[ $(instance_field "$1" '.status | "\(.state): \(.reason)"') == "$2" ]]
}

# A guest writes until nothing fits: it stands, is not killed however long that lasts, and goes on by itself.
story_a_full_store_pauses_a_guest_that_writes() {
        local address pid epoch acked
        given_linux web h1
        address=$(instance_address web)
        soon "ssh" 180 guest_answers "$address"
        writer_start "$address"
        soon "the writer writes" 120 acked_beyond 20
        pid=$(pid_on web h1) epoch=$(epoch_of web)
        full_begin
        guest_on "$address" 'dd if=/dev/urandom of=/root/big bs=1M count=80 conv=fsync >/dev/null 2>&1 &' || :
        soon "it is paused: $(instance_field web .status)" 90 status_says web "paused: storage full"
        wherry ls | grep -q "paused: storage full" || fail "ls does not say so: $(wherry ls)"
        refused "storage full" wherry migrate web h2
        happened instance-paused web
        # The errors of three tries within six seconds used to end it.
        stays 25 eval '! process_gone '"$pid"
        [[ $(where web) == "h1:$pid" ]] || fail "not the same QEMU any more: $(where web), was $pid"
        writer_stop # ssh has given up long ago
        acked=$(acked_last)
        full_end
        soon "it goes on: $(instance_field web .status)" 60 state_is web running
        soon "ssh" 180 guest_answers "$address"
        log_check "$address" "$acked"
        guest_on "$address" 'fsync-writer /root/log --count 5' >/dev/null
        happened instance-resumed web
        [[ "$(where web) $(epoch_of web)" == "h1:$pid $epoch" ]] || fail "another QEMU: $(where web), was $pid"
        removed web
}
