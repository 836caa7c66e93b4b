# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
#
# An image from its name to its end: aliases, checksums, damage, removal.

story_aliases_name_the_newest_of_a_version() {
        local id spec
        for v in 11 12 12.5 9; do
                w image add disk.raw --name "deb-$v" --os debian --version "$v" && want 0
                w image set "deb-$v" --visibility public && want 0
        done
        call bob POST /v2/images -d '{"name":"trap","disk_format":"raw","os":"debian","version":"99","visibility":"community"}'
        id=$(field .id)
        call bob PUT "/v2/images/$id/file" -H 'Content-Type: application/octet-stream' -T disk.raw
        equal "bob's upload" "$status" 204
        call bob PATCH "/v2/images/$id" -H 'Content-Type: application/json' -d '[{"op":"replace","path":"/name","value":"debian:latest"}]'
        equal "bob's name" "$status" 200
        w image show debian:latest --json && want 0
        equal latest "$(field .name)" deb-12.5
        w image show debian:12 --json && equal 12 "$(field .name)" deb-12.5
        w image show debian:11 --json && equal 11 "$(field .name)" deb-11
        w image add disk.raw --name deb-12.5-new --os debian --version 12.5 && want 0
        w image show debian:12.5 --json && equal "the newer one" "$(field .name)" deb-12.5-new
        w image show debian:13 && want 1 "debian:13"
        call alice GET /v1/images/debian:latest
        equal "alice's latest" "$(field .name)" deb-12.5
        call bob GET /v1/images/debian:latest
        equal "bob's own" "$(field .name)" debian:latest
        w image show debian:99 --json && want 1
        call bob PATCH "/v2/images/$id" -H 'Content-Type: application/json' -d '[{"op":"replace","path":"/name","value":"trap:1"}]'
        w image show trap:1 --json && equal "a name that no alias has" "$(field .id)" "$id"
        # A name is a stranger's text: nothing of it reaches a terminal but letters.
        call bob PATCH "/v2/images/$id" -H 'Content-Type: application/json' -d '[{"op":"replace","path":"/name","value":"tr\u001b[31map"}]'
        for spec in "set $id --tag x" "deactivate $id" "save $id trap.raw" "verify $id" "rm $id" "list --deleted" "undelete $id"; do
                # shellcheck disable=SC2086
                w image $spec && want 0
                grep -q $'\033' out err && fail "$spec prints $(cat -v out err)"
                [ "$spec" != "list --deleted" ] || grep -q "$id" out || fail "a community image is not among the deleted ones"
        done
}

story_a_deleted_image_comes_back_or_goes() {
        local id
        w image add disk.raw --name phoenix --json && want 0
        id=$(field .id)
        w image rm phoenix && want 0
        w image show phoenix && want 1
        w image show "$id" && want 1
        w image list --deleted && want 0 phoenix
        [ -e "store/images/$id.raw" ] || fail "its bytes are gone at once"
        w image undelete phoenix && want 0
        w image save phoenix back.raw && want 0
        cmp back.raw disk.raw || fail "it came back different"
        w image rm phoenix --now && want 0
        gone() { [ ! -e "store/images/$id.raw" ]; }
        eventually 10 gone || fail "its bytes stay"
        w image undelete "$id" && want 1
        w image save phoenix back.raw && want 1
}

story_errors_say_what_to_do() {
        local id member
        w image add disk.raw --name words --json && want 0
        id=$(field .id)
        w image set words --name "" && want 2 "1 to 255 bytes"
        w image set words --protect && want 0
        w image rm words && want 1 "unprotect it first"
        w image set words --unprotect && want 0
        # An account that is gone can still be taken from the image's members.
        account leaver
        member=$(account_id leaver)
        w image share words leaver && want 0
        w account rm leaver && want 0
        w image unshare words "$member" && want 0 "no longer shared"
        call root GET "/v2/images/$id/members"
        equal members "$(field '.members|length')" 0
        # What is deleted and can come back is out of sight, and yet its account's.
        account owner
        call root PATCH "/v2/images/$id" -H 'Content-Type: application/openstack-images-v2.1-json-patch' \
                -d "[{\"op\":\"replace\",\"path\":\"/owner\",\"value\":\"$(account_id owner)\"}]"
        w account rm owner && want 1 "owns 1 image; remove it"
        w image rm words && want 0
        w account rm owner && want 1 "--now ID\" removes for good: $id"
        w image rm "$id" --now && want 0
        w account rm owner && want 0
}

story_the_users_checksum_is_checked() {
        local web sum256 sum512 n
        sum256=$(sha256sum <disk.qcow2 | cut -d' ' -f1) sum512=$(sha512sum <disk.qcow2 | cut -d' ' -f1)
        n=$(find store/images -type f | wc -l)
        w image add disk.qcow2 --name summed --checksum "sha256:${sum256^^}" && want 0
        w image add disk.qcow2 --name summed512 --checksum "sha512:$sum512" && want 0
        w image add disk.raw --name unsummed --checksum "sha256:$sum256" && want 1 "$(sha256sum <disk.raw | cut -d' ' -f1)"
        grep -q "$sum256" err || fail "the given one is not named: $(cat err)"
        for bad in md5:0123 "sha256:$sum512" "$sum256" "sha256:x${sum256:1}"; do
                w image add disk.raw --name unsummed --checksum "$bad" && want 2 "sha256:HEX"
        done
        busybox httpd -f -p 127.0.0.1:8091 -h "$work" & web=$!
        eventually 3 curl -sf -o /dev/null http://127.0.0.1:8091/disk.raw || fail "no web server"
        w image add http://127.0.0.1:8091/disk.qcow2 --name fetched --checksum "sha512:$sum512" && want 0
        w image add http://127.0.0.1:8091/disk.raw --name unsummed --checksum "sha256:$sum256" && want 1 "$(sha256sum <disk.raw | cut -d' ' -f1)"
        grep -q "$sum256" err || fail "the given one is not named: $(cat err)"
        call root POST /v2/images -d '{"name":"p","disk_format":"raw"}'
        id=$(field .id)
        call root POST "/v2/images/$id/import" -d '{"method":{"name":"web-download","uri":"http://127.0.0.1:8091/disk.raw","checksum":"md5:1"}}'
        equal "a checksum of another kind" "$status" 400
        call root GET "/v2/images/$id" && equal "its status" "$(field .status)" queued
        call root DELETE "/v2/images/$id"
        kill $web
        wait $web 2>/dev/null
        w image list --quiet && want 0
        ! grep -q unsummed out || fail "an image of another checksum is there: $(cat out)"
        equal "files in the store" "$(find store/images -type f | wc -l)" $((n + 3))
        [ -z "$(find store/tmp -type f)" ] || fail "left: $(ls store/tmp)"
}

# Damage behind imaged's back, found by each way in: converted by the client, a stream in order, one that has to be read again.
story_verify_names_what_is_damaged() {
        local id file before
        head -c 9000000 /dev/urandom >nine.raw
        truncate -s 30M nine.raw
        qemu-img convert -f raw -O qcow2 nine.raw nine.qcow2
        qemu-img create -q -f qcow2 jumbled.qcow2 30M # its data stands in the file in another order than on the disk
        qemu-io -f qcow2 -c 'write -q -P 7 20M 1M' -c 'write -q -P 9 8M 1M' -c 'write -q -P 5 0 1M' jumbled.qcow2
        for file in nine.raw nine.qcow2 jumbled.qcow2; do
                if [ $file = nine.raw ]; then
                        w image add $file --name "verified-$file" --json && want 0
                        id=$(field .id)
                else
                        call root POST /v2/images -d "{\"name\":\"verified-$file\",\"disk_format\":\"qcow2\",\"container_format\":\"bare\"}"
                        id=$(field .id)
                        call root PUT "/v2/images/$id/file" -H 'Content-Type: application/octet-stream' -T $file
                        equal "upload of $file" "$status" 204
                fi
                w image verify "verified-$file" --rate 1G && want 0 "30 MiB verified"
                before=$(dd if="store/images/$id.raw" bs=1 skip=8388700 count=1 status=none | xxd -p)
                chmod 600 "store/images/$id.raw"
                printf '%b' "\\x$(printf %02x $((0x$before ^ 1)))" | dd of="store/images/$id.raw" bs=1 seek=8388700 conv=notrunc status=none
                printf x | dd of="store/images/$id.raw" bs=1 seek=31457000 conv=notrunc status=none # in a hole, in the short last chunk
                w image verify "$id" && want 1 "damaged in 2 places"
                equal places "$(cat out)" "$(printf 'damaged: 4194304 bytes at offset 8388608\ndamaged: 2097152 bytes at offset 29360128')"
                w image verify "$id" --json && want 1
                equal document "$(jq -c '[.ok, .size] + [.damaged[] | .offset, .length]' out)" '[false,31457280,8388608,4194304,29360128,2097152]'
                truncate -s 12M "store/images/$id.raw"
                w image verify "$id" && want 1 "beyond its end"
                w image rm "$id" --now && want 0
        done
        manifest() { find store/records/manifest -name "$id-0.v*" | sort -V | tail -1; }
        [ -e "$(manifest)" ] || fail "there was no manifest"
        manifest_gone() { ! grep -q chunks "$(manifest)"; }
        eventually 10 manifest_gone || fail "the manifest stays: $(cat "$(manifest)")"
}

story_verify_of_what_cannot_be_verified() {
        local id path pid
        w image add disk.raw --name older --json && want 0
        id=$(field .id)
        w image verify older --rate 1000 && want 2 "--rate"
        call alice GET "/v2/images/$id/verify"
        equal "of another's" "$status" 404
        w image set older --visibility public && want 0
        call alice GET "/v2/images/$id/verify"
        equal "of another's that is public" "$status" 403
        call root GET "/v2/images/$id/verify?rate=1x" && equal rate "$status" 400
        truncate -s 200M long.raw
        w image add long.raw --name long && want 0
        "$wherry" --url "$one" --token-file token image verify long --rate 1M >out 2>err & pid=$!
        sleep 1 # into the 200 s that it takes at that rate
        kill -INT $pid
        wait $pid
        status=$?
        want 130 interrupted
        call root POST /v2/images -d '{"name":"empty","disk_format":"raw"}'
        w image verify "$(field .id)" && want 1 "nothing to verify"
        # as a record looks that was written before there were manifests
        stop one && stop two
        path=$(find store/records/image -name "$id.v*" | sort -V | tail -1)
        sed -i 's/"manifest": *{[^}]*}, *//; s/, *"manifest": *{[^}]*}//' "$path"
        start one 8081 && start two 8082
        w image verify older && want 1 "has no manifest"
}
