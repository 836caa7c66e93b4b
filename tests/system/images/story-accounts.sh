# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
#
# Who may do what, and how much of it.

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
        sleep 1.1 # an imaged may go by what it knew of an account a second ago
        status=$(curl -sS -o out -w '%{http_code}' -H "X-Auth-Token: $token" "$two/v2/images")
        equal "a token from before the new password" "$status" 401
        w account password alice --password-file <(echo "secret of alice") && want 0
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

story_a_quota_counts_what_its_account_owns() {
        local to patch='Content-Type: application/openstack-images-v2.1-json-patch' id
        quotas() { for n in giver taker poor; do w account show $n --json && field .used.image_bytes; done | tr '\n' ' '; }
        give() { call root PATCH "/v2/images/$id" -H "$patch" -d "[{\"op\":\"replace\",\"path\":\"/owner\",\"value\":\"$(account_id "$1")\"}]"; }
        account giver --quota 64M
        account taker --quota 64M
        account poor --quota 4M
        call giver POST /v2/images -d '{"name":"gift","disk_format":"raw"}'
        id=$(field .id)
        give taker && equal "queued" "$status" 200
        give giver && equal "and back" "$status" 200
        call giver PUT "/v2/images/$id/file" -H 'Content-Type: application/octet-stream' -T disk.raw
        equal upload "$status" 204
        equal used "$(quotas)" "8388608 0 0 "
        give taker && equal "given away" "$status" 200
        equal "used then" "$(quotas)" "0 8388608 0 "
        give poor && equal "over the new owner's quota" "$status" 413
        equal "still used" "$(quotas)" "0 8388608 0 "
        call taker GET "/v2/images/$id"
        equal owner "$(field .owner)" "$(account_id taker)"
        to=$(account_id giver)
        call taker PATCH "/v2/images/$id" -H "$patch" -d "[{\"op\":\"replace\",\"path\":\"/owner\",\"value\":\"$to\"}]"
        equal "by its owner" "$status" 403
        equal "used as before" "$(quotas)" "0 8388608 0 "
        call taker DELETE "/v2/images/$id?purge=true"
        equal "used by nobody" "$(quotas)" "0 0 0 "
        for to in giver taker poor; do w account rm $to && want 0; done
}

story_a_quota_comes_later_and_changes() {
        local id owner
        account grower
        call grower POST /v2/images -d '{"name":"first","disk_format":"raw"}'
        id=$(field .id)
        call grower PUT "/v2/images/$id/file" -H 'Content-Type: application/octet-stream' -T disk.raw
        equal "without a quota" "$status" 204
        upload() {
                call grower POST /v2/images -d '{"name":"next","disk_format":"raw"}'
                call grower PUT "/v2/images/$(field .id)/file" -H 'Content-Type: application/octet-stream' -T disk.raw
        }
        w account set grower --quota 12M --json
        want 0
        equal "used at once" "$(field .used.image_bytes) $(field .quota.image_bytes)" "8388608 12582912"
        upload
        equal "a second of 8 MiB in 12" "$status" 413
        w account set grower --quota 16M && want 0
        grep -q "8 MiB of 16 MiB" out || fail "says: $(cat out)"
        upload
        equal "in 16" "$status" 204
        w account set grower --quota 4M --json && want 0
        equal "less than it has" "$(field .used.image_bytes)" 16777216
        upload
        equal "in 4" "$status" 413
        call grower GET "/v2/images/$id"
        equal "what it has stays" "$(field .status)" active
        w account set grower --no-quota && want 0
        upload
        equal "without one again" "$status" 204
        w account set grower --quota 1G --json && want 0
        equal "all three" "$(field .used.image_bytes)" 25165824
        call grower DELETE "/v2/images/$id?purge=true"
        w account show grower --json
        equal "one less" "$(field .used.image_bytes)" 16777216
        status=$(curl -sS -o out -w '%{http_code}' -H "X-Auth-Token: $(login grower)" "$one/v1/accounts")
        equal "a member at the accounts" "$status" 403
        w account set grower --role admin && want 0
        status=$(curl -sS -o out -w '%{http_code}' -H "X-Auth-Token: $(login grower)" "$one/v1/accounts")
        equal "an administrator" "$status" 200
        w account set grower --role member && want 0
        w account set grower
        want 2
        w account set grower --quota 1G --no-quota
        want 2
        w account set nobody --quota 1G
        want 1
        call root PATCH /v1/accounts/grower -d '{"quota":{"image_bytes":-1}}'
        equal "a quota below 0" "$status" 400
        call root PATCH /v1/accounts/grower -d '{"password":"something else"}'
        equal "a password" "$status" 400
        owner=$(account_id grower)
        for id in $(call grower GET /v2/images && field '.images[] | select(.owner == "'"$owner"'").id'); do
                call grower DELETE "/v2/images/$id?purge=true"
        done
        w account rm grower && want 0
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
