# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
#
# The clients that people have, unmodified.

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
