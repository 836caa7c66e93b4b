# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154

story_a_password_gives_a_token_that_every_imaged_takes() {
        local token
        as alice openstack token issue -f json
        want 0
        equal project "$(field .project_id)" "$(account_id alice)"
        token=$(login alice)
        curl -sf -o out -H "X-Auth-Token: $token" "$two/v2/images" || fail "the other imaged does not take it"
        curl -sf -o out -H "X-Auth-Token: ${token%?}x" "$two/v2/images" && fail "a changed token is taken"
        [ -z "$(login alice wrong)" ] || fail "a wrong password gives a token"
        [ -z "$(login nobody wrong)" ] || fail "a name that is not there gives a token"
        status=$(curl -sS -o out -w '%{http_code}' -H "X-Auth-Token: $token" "$one/v1/instances")
        equal "a member at the instances" "$status" 403
        status=$(curl -sS -o out -w '%{http_code}' -H "X-Auth-Token: $token" "$one/v1/accounts")
        equal "a member at the accounts" "$status" 403
        status=$(curl -sS -o out -w '%{http_code}' -H "X-Auth-Token: $(login root)" "$one/v1/accounts")
        equal "an administrator at the accounts" "$status" 200
        grep -q argon2 out && fail "the list of accounts shows hashes"
        w account password alice --password-file <(echo "another one")
        want 0
        sleep 1.1
        status=$(curl -sS -o out -w '%{http_code}' -H "X-Auth-Token: $token" "$two/v2/images")
        equal "a token from before the new password" "$status" 401
        w account password alice --password-file <(echo "secret of alice") && want 0
}

story_openstack_client() {
        local id copy sum
        sum=$(sha256sum <disk.raw | cut -d' ' -f1)
        as alice openstack image create debian-os --disk-format qcow2 --container-format bare --file disk.qcow2 \
                --property os=debian --property version=12 --tag first -f json
        want 0
        id=$(field .id)
        as alice openstack image show debian-os -f json && want 0
        equal status "$(field .status)" active
        equal hash "$(field '.properties.os_hash_value')" "$sum"
        equal version "$(field '.properties.version')" 12
        as alice openstack image save --file saved.raw "$id" && want 0
        cmp saved.raw disk.raw || fail "what was saved differs"
        as alice openstack image set debian-os --property color=blue --tag second --min-ram 256 --name renamed && want 0
        as alice openstack image unset renamed --property version --tag first && want 0
        as alice openstack image show renamed -f json && want 0
        equal color "$(field .properties.color)" blue
        equal version "$(field '.properties.version // "none"')" none
        equal tags "$(field '.tags|join(" ")')" second
        equal min_ram "$(field .min_ram)" 256
        as alice openstack image list --property color=blue -f value -c Name && want 0
        equal found "$(cat out)" renamed
        as alice openstack image list --tag second --sort name:asc --long -f value -c Name && want 0
        equal found "$(cat out)" renamed
        as bob openstack image show "$id" && want 1 "No Image found"
        as alice openstack image add project "$id" "$(account_id bob)" && want 0
        as bob openstack image list -f value -c Name && want 0
        equal "before the acceptance" "$(grep -cx renamed out)" 0
        as bob openstack image set --accept "$id" && want 0
        as bob openstack image list --shared -f value -c Name && want 0
        equal "after the acceptance" "$(grep -cx renamed out)" 1
        as bob openstack image set "$id" --name stolen && want 1
        as bob openstack image delete "$id" && want 1
        as alice openstack image member list "$id" -f json && want 0
        equal member "$(field '.[0].Status')" accepted
        call alice DELETE "/v2/images/$id/members/$(account_id bob)" # (this version of `image remove project` is broken)
        equal "end of the membership" "$status" 204
        as bob openstack image show "$id" && want 1
        as alice openstack image set "$id" --deactivate && want 0
        call alice GET "/v2/images/$id/file" # (`image save` does not look at the status that it gets)
        equal "download of a deactivated image" "$status" 403
        as alice openstack image set "$id" --activate && want 0
        as alice openstack image set "$id" --protected && want 0
        as alice openstack image delete "$id" && want 1 "protected"
        as alice openstack image set "$id" --unprotected && want 0
        as alice openstack image set "$id" --public && want 1
        as root openstack image set "$id" --public && want 0
        as bob openstack image show "$id" -f json && want 0
        as alice openstack image delete renamed && want 0
        as alice openstack image show "$id" && want 1
}

story_glance_client() {
        local id
        as alice glance image-create --name raw-glance --disk-format raw --container-format bare --file disk.raw --progress
        want 0
        id=$(awk '$2 == "id" { print $4 }' out)
        as alice glance image-show "$id" && want 0 "active"
        as alice glance image-download "$id" --file down.raw && want 0
        cmp down.raw disk.raw || fail "what was downloaded differs"
        as alice glance image-update "$id" --property stage=test --min-disk 1 && want 0 "test"
        as alice glance image-update "$id" --remove-property stage && want 0
        as alice glance image-tag-update "$id" green && want 0
        as alice glance image-list --tag green && want 0 "$id"
        as alice glance image-tag-delete "$id" green && want 0
        as alice glance member-create "$id" "$(account_id bob)" && want 0 pending
        as bob glance member-update "$id" "$(account_id bob)" accepted && want 0 accepted
        as bob glance image-list && want 0 raw-glance
        as alice glance member-list --image-id "$id" && want 0 accepted
        as alice glance member-delete "$id" "$(account_id bob)" && want 0
        as alice glance image-deactivate "$id" && want 0
        as alice glance image-reactivate "$id" && want 0
        as alice glance image-create-via-import --name staged --disk-format qcow2 --container-format bare --file disk.qcow2 <&-
        want 0 active
        as alice glance import-info && want 0 glance-
        as alice glance usage && want 0 image_size_total
        as alice glance image-delete "$id" && want 0
        as alice glance image-show "$id" && want 1
        id=$(call alice GET '/v2/images?name=staged' && field .images[0].id)
        as alice glance image-download "$id" --file down.raw && want 0
        cmp down.raw disk.raw || fail "what was staged differs"
        call alice DELETE "/v2/images/$id?purge=true"
}

story_sdk() {
        as alice /usr/bin/python3 "$here/sdk.py" disk.raw && want 0 "all well"
        as bob env EXPECT=none /usr/bin/python3 "$here/sdk.py" disk.raw && want 0 "all well"
}

story_import_from_the_web_stays_outside_for_members() {
        local web
        busybox httpd -f -p 127.0.0.1:8090 -h "$work" & web=$!
        eventually 3 curl -sf -o /dev/null http://127.0.0.1:8090/disk.raw || fail "no web server"
        as root glance image-create-via-import --name web --disk-format qcow2 --container-format bare \
                --import-method web-download --uri http://127.0.0.1:8090/disk.qcow2 <&-
        want 0
        id=$(awk '$2 == "id" { print $4 }' out)
        web_active() { call root GET "/v2/images/$id" && [ "$(field .status)" = active ]; }
        eventually 5 web_active || fail "not imported: $(cat out)"
        call bob POST /v2/images -d '{"name":"inner","disk_format":"raw"}'
        id=$(field .id)
        for url_in in http://127.0.0.1:8090/disk.raw http://localhost:8090/disk.raw 'http://[::1]:8090/x' http://169.254.169.254/latest; do
                call bob POST "/v2/images/$id/import" -d "{\"method\":{\"name\":\"web-download\",\"uri\":\"$url_in\"}}"
                equal "status of $url_in" "$status" 202
                refused_inside() { call bob GET "/v2/images/$id" && field .import_error | grep -q "private one"; }
                eventually 5 refused_inside || fail "$url_in: $(cat out)"
        done
        kill $web
        wait $web 2>/dev/null
}

# 64 MiB are alice's; uploads at the same time, through two imageds, do not exceed them together.
story_quota_is_hard() {
        local n=0 pid pids=() ids=() token
        token=$(login alice)
        call alice GET /v2/info/usage
        equal "used before" "$(field '.usage.image_size_total.limit')" 64
        for i in 1 2 3 4 5 6; do
                call alice POST /v2/images -d "{\"name\":\"q$i\",\"disk_format\":\"raw\"}"
                ids+=("$(field .id)")
        done
        truncate -s 20M twenty.raw
        for i in 0 1 2 3 4 5; do
                curl -sS -o "q$i.out" -w '%{http_code}' -X PUT -H "X-Auth-Token: $token" -H 'Content-Type: application/octet-stream' \
                        -T twenty.raw "http://127.0.0.1:$((8081 + i % 2))/v2/images/${ids[i]}/file" >"q$i.status" &
                pids+=($!)
        done
        for pid in "${pids[@]}"; do wait "$pid"; done
        for i in 0 1 2 3 4 5; do [ "$(cat q$i.status)" = 204 ] && n=$((n + 1)); done
        [ $n -ge 1 ] && [ $n -le 3 ] || fail "$n images of 20 MiB within 64: $(cat q*.status)"
        grep -lq "over its quota" q?.out || fail "no refusal names the quota: $(cat q?.out)"
        grep -qE '413' q?.status || fail "no 413: $(cat q*.status)"
        # of unknown size: cut off where the quota ends
        call alice POST /v2/images -d '{"name":"q7","disk_format":"raw"}'
        ids+=("$(field .id)")
        head -c 70000000 /dev/zero | curl -sS -o q.out -w '%{http_code}' -X PUT -H "X-Auth-Token: $token" \
                -H 'Content-Type: application/octet-stream' -H 'Transfer-Encoding: chunked' -T - "$one/v2/images/${ids[6]}/file" >q.status
        equal "status of the endless one" "$(cat q.status)" 413
        for i in 0 1 2 3 4 5 6; do call alice DELETE "/v2/images/${ids[i]}?purge=true"; done
        usage_zero() { call alice GET /v2/info/usage && [ "$(field '.usage.image_size_total.usage')" -lt 20 ]; }
        eventually 20 usage_zero || fail "the quota is not given back: $(cat out)"
}

# What lies on the store's storage is nobody's to read but an administrator's, also for somebody else's image and quota.
story_volumes_of_the_store_are_for_administrators() {
        local id
        cp disk.raw store/import/volume.raw
        truncate -s 100M store/import/large.raw
        volume_into() { call "$1" POST "/v2/images/$id/import" -d "{\"method\":{\"name\":\"store-volume\",\"volume\":\"$2\"}}"; }
        import_over() { call alice GET "/v2/images/$id" && [ "$(field .status)" != importing ]; }
        call alice POST /v2/images -d '{"name":"volume","disk_format":"raw"}'
        id=$(field .id)
        volume_into alice volume.raw
        equal "a member's" "$status" 403
        grep -q "only administrators" out || fail "says: $(cat out)"
        volume_into root large.raw
        equal "an administrator's" "$status" 202
        eventually 10 import_over || fail "no end: $(cat out)"
        grep -q "over its quota" out || fail "the quota is not alice's: $(cat out)"
        volume_into root volume.raw
        equal "an administrator's" "$status" 202
        eventually 10 import_over || fail "no end: $(cat out)"
        equal status "$(field .status)" active
        call alice GET "/v2/images/$id/file"
        cmp out disk.raw || fail "other bytes"
        volume_into root volume.raw
        equal "of one that is active" "$status" 409
        call alice DELETE "/v2/images/$id?purge=true"
        rm store/import/*
}

story_nobody_reaches_what_is_not_theirs() {
        local id method path body
        call alice POST /v2/images -d '{"name":"mine","disk_format":"raw","visibility":"private"}'
        id=$(field .id)
        call alice PUT "/v2/images/$id/file" -H 'Content-Type: application/octet-stream' -T disk.raw
        equal upload "$status" 204
        while read -r method path body; do
                call bob "$method" "/v2/images/$id${path#.}" -H 'Content-Type: application/openstack-images-v2.1-json-patch' ${body:+-d "$body"}
                equal "bob: $method $path" "$status" 404
        done <<'LIST'
GET .
PATCH . [{"op":"replace","path":"/name","value":"x"}]
DELETE .
GET /file
GET /tasks
GET /verify
GET /members
POST /members {"member":"x"}
PUT /tags/x
DELETE /tags/x
POST /actions/deactivate {}
POST /actions/reactivate {}
POST /actions/undelete {}
POST /import {"method":{"name":"glance-direct"}}
POST /import {"method":{"name":"store-volume","volume":"x"}}
LIST
        call bob PUT "/v2/images/$id/file" -H 'Content-Type: application/octet-stream' -T disk.raw
        equal "bob: upload" "$status" 404
        call bob PUT "/v2/images/$id/stage" -H 'Content-Type: application/octet-stream' -T disk.raw
        equal "bob: stage" "$status" 404
        call bob GET "/v1/images/mine"
        equal "bob: by name" "$status" 404
        call bob GET "/v1/images?name=mine"
        equal "bob: by name" "$status" 404
        call bob GET /v1/images
        equal "bob: by no name" "$status" 400
        call bob POST /v2/images -d "{\"name\":\"x\",\"owner\":\"$(account_id alice)\"}"
        equal "bob: for alice" "$status" 403
        call bob POST /v2/images -d '{"name":"x","visibility":"public"}'
        equal "bob: public" "$status" 403
        for member in status=active size=1 locations=x direct_url=x members=x import=x os_hash_value=x os_glance_x=x; do
                call bob POST /v2/images -d "{\"name\":\"x\",\"${member%=*}\":\"${member#*=}\"}"
                equal "bob: sets ${member%=*}" "$status" 403
        done
        call alice PATCH "/v2/images/$id" -H 'Content-Type: application/openstack-images-v2.1-json-patch' \
                -d '[{"op":"add","path":"/locations/-","value":{"url":"file:///etc/passwd","metadata":{}}}]'
        equal "a location of one's own" "$status" 403
        call alice DELETE "/v2/images/$id?purge=true"
        equal delete "$status" 204
}

story_aliases_name_the_newest_of_a_version() {
        local id
        for v in 11 12 12.5 9; do
                w image add disk.raw --name "deb-$v" --os debian --version "$v" && want 0
                w image set "deb-$v" --visibility public && want 0
        done
        call bob POST /v2/images -d '{"name":"trap","disk_format":"raw","os":"debian","version":"99","visibility":"community"}'
        id=$(field .id)
        call bob PUT "/v2/images/$id/file" -H 'Content-Type: application/octet-stream' -T disk.raw
        equal "bob's upload" "$status" 204
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
        equal "bob's own" "$(field .name)" trap
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
        sleep 1
        kill -INT $pid
        wait $pid
        status=$?
        want 1 interrupted
        call root POST /v2/images -d '{"name":"empty","disk_format":"raw"}'
        w image verify "$(field .id)" && want 1 "nothing to verify"
        # as a record looks that was written before there were manifests
        stop one && stop two
        path=$(find store/records/image -name "$id.v*" | sort -V | tail -1)
        sed -i 's/"manifest": *{[^}]*}, *//; s/, *"manifest": *{[^}]*}//' "$path"
        start one 8081 && start two 8082
        w image verify older && want 1 "has no manifest"
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

# Order, pages, filters and refusals, as Glance 25 answered the same requests.
story_lists_and_patches_answer_as_glance() {
        local patch='Content-Type: application/openstack-images-v2.1-json-patch' n=0 spec now
        local -A want_names
        local token
        token=$(login bob)
        ask() { status=$(curl -sS -o out -w '%{http_code}' -X "$1" -H "X-Auth-Token: $token" "${@:3}" "$one$2" 2>err); }
        for spec in b:qcow2:3 a:raw:1 c:raw:2 a:iso:5 Z,1:vdi:2; do
                IFS=: read -r name format disk <<<"$spec"
                ask POST /v2/images -d "{\"name\":\"$name\",\"disk_format\":\"$format\",\"min_disk\":$disk,\"tags\":[\"order\",\"t$disk\",\"order\"],\"n\":\"$((n++))\"}"
                equal created "$status" 201
                equal "a tag given twice" "$(field '.tags|join(" ")')" "order t$disk"
                if [ "$format" = raw ]; then
                        head -c $((512 * disk)) /dev/zero >small
                        ask PUT "/v2/images/$(field .id)/file" -H 'Content-Type: application/octet-stream' -T small
                        equal upload "$status" 204
                fi
        done
        want_names=(
                ['sort=name:asc']='Z,1 a1 a3 b c' ['sort=name']='c b a3 a1 Z,1' ['sort_key=name&sort_dir=asc']='Z,1 a1 a3 b c'
                ['sort=name:asc,created_at:desc']='Z,1 a3 a1 b c' ['sort=disk_format:desc']='Z,1 c a1 b a3'
                ['sort=size:desc,name:asc']='c a1 Z,1 a3 b' ['min_disk=2']='Z,1 c' ['size=512']=a1 ['virtual_size=1024']=c
                ['size_max=600']=a1 ['size_min=0']='c a1' ['name=in:%22Z,1%22,b']='Z,1 b' ['name=Z,1']=Z,1 ['name=in:Z,1']=
                ['&limit=1&&']=Z,1 ['created_at=gt:2020-01-01']='Z,1 a3 c a1 b'
        )
        for spec in "${!want_names[@]}"; do
                ask GET "/v2/images?tag=order&$spec"
                equal "$spec" "$(field '[.images[] | if .name == "a" then .name + .n else .name end] | join(" ")')" "${want_names[$spec]}"
        done
        now=$(date -u +%Y-%m-%dT%H:%M:%S)
        for spec in "gt:$now+05:00" "gt:$now.5%2B0500" "lt:$now-05:00" "lt:$now-05" neq:2001-01-01T00:00:00Z "gt:2001-01-01T00:00:00"; do
                ask GET "/v2/images?tag=order&created_at=$spec"
                equal "created_at=$spec" "$(field '.images|length')" 5
        done
        ask GET "/v2/images?tag=order&created_at=lt:$now+05:00"
        equal "created 5 hours ago" "$(field '.images|length')" 0
        ask GET '/v2/images?tag=order&sort=name:asc&limit=2'
        ask GET "$(field .next)"
        equal "second page" "$(field '[.images[] | .name + .n] | join(" ")')" "a3 b0"
        for spec in 'name=in:%22a' 'name=in:%22a%22b' created_at=foo:2020-01-01T00:00:00Z created_at=in:2020-01-01T00:00:00Z created_at=gt:yesterday created_at=gt:2026-01-31T12 created_at=2026-01-31T12:00:00Zulu; do
                ask GET "/v2/images?$spec"
                equal "status of $spec" "$status" 400
        done
        ask POST /v2/images -H 'Content-Type: application/json'
        equal "no body" "$status" 400
        head -c 60000 /dev/zero | tr '\0' x >long
        ask POST /v2/images -d "{\"name\":\"p\",\"tags\":[\"order\"],\"long\":\"$(cat long)\"}"
        equal "a long property" "$status" 201
        id=$(field .id)
        ask PATCH "/v2/images/$id" -H "$patch" -d '[{"op":"add","path":"/x~2","value":"x"}]'
        equal "a wrong escape" "$status" 400
        ask PATCH "/v2/images/$id" -H "$patch" -d '[{"op":"replace","path":"/tags","value":["order","r","r"]}]'
        equal "tags given twice" "$(field '.tags|join(" ")')" "order r"
        for n in 1 2 3; do echo "{\"op\":\"add\",\"path\":\"/p$n\",\"value\":\"$(cat long)\"}"; done | jq -s . >patch.json
        ask PATCH "/v2/images/$id" -H "$patch" -d @patch.json
        equal "more than a record holds" "$status" 413
        for id in $(ask GET '/v2/images?tag=order' && field '.images[].id'); do ask DELETE "/v2/images/$id?purge=true"; done
}

story_versions_and_errors_as_documented() {
        call alice GET /
        equal "GET /" "$status" 300
        call alice GET /v2/schemas/image
        equal schema "$(field .name)" image
        call alice GET '/v2/images?limit=1&sort=name:asc'
        equal first "$(field .first)" "/v2/images?limit=1&sort=name%3Aasc"
        call alice GET '/v2/images?visibility=everybody' && equal status "$status" 400
        call alice GET '/v2/images?created_at=gt:2001-01-01T00:00:00Z&size_min=1&status=in:active,queued' && equal status "$status" 200
        call alice POST /v2/images -d '{"name":"p","disk_format":"raw"}'
        id=$(field .id)
        call alice PATCH "/v2/images/$id" -d '[]' && equal "wrong type" "$status" 415
        call alice PATCH "/v2/images/$id" -H 'Content-Type: application/openstack-images-v2.1-json-patch' \
                -d '[{"op":"add","path":"/a~1b~0c","value":"x"},{"op":"replace","path":"/none","value":"y"}]'
        equal "replace what is not there" "$status" 409
        call alice GET "/v2/images/$id"
        equal "half a patch" "$(field '."a/b~c" // "none"')" none
        call alice DELETE "/v2/images/$id" && equal delete "$status" 204
}
