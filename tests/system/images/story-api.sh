# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
#
# The image API as its documents and Glance have it, past all clients.

# Order, pages, filters and refusals, as Glance 25 answered the same requests.
story_lists_and_patches_answer_as_glance() {
        local patch='Content-Type: application/openstack-images-v2.1-json-patch' n=0 spec now
        local -A want_names
        local token next
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
        # The page's last image does not fit any more when the next page is asked for: it still says where that begins.
        ask GET '/v2/images?tag=order&sort=disk_format:desc,name:asc&limit=2'
        id=$(field '.images[1].id') next=$(field .next)
        for now in '"path":"/tags","value":["order-not"]' '"path":"/tags","value":["order"]'; do
                ask PATCH "/v2/images/$id" -H "$patch" -d "[{\"op\":\"replace\",$now}]"
                equal "status of $now" "$status" 200
                ask GET "$next"
                equal "next page after $now" "$status,$(field '[.images[] | .name + .n] | join(" ")')" "200,c2 b0"
        done
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
