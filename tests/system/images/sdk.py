#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The image API through openstacksdk. Usage: sdk.py DISK; EXPECT=none: this account sees no image of the other."""
import hashlib
import os
import sys

import openstack

cloud = openstack.connect()
path = sys.argv[1]
with open(path, "rb") as f:
    digest = hashlib.sha256(f.read()).hexdigest()

if os.environ.get("EXPECT") == "none":
    assert not [i for i in cloud.image.images() if i.name.startswith("sdk-")], "sees the images of another"
    print("all well")
    sys.exit()

image = cloud.create_image("sdk-1", filename=path, disk_format="raw", container_format="bare", wait=True, os="debian",
                           version="12")
image = cloud.image.get_image(image.id)
assert image.status == "active", image.status
assert image.hash_value == digest, image.hash_value
assert image.size == os.path.getsize(path), image.size

image = cloud.image.update_image(image, name="sdk-2", min_ram=128)
assert image.name == "sdk-2" and image.min_ram == 128
cloud.image.add_tag(image, "a")
cloud.image.add_tag(image, "b")
cloud.image.remove_tag(image, "a")
assert cloud.image.get_image(image.id).tags == ["b"]

found = list(cloud.image.images(limit=1))
assert image.id in [i.id for i in found], "pages of one lose it"
assert len({i.id for i in found}) == len(found), "pages overlap"

data = cloud.image.download_image(image, stream=False)
assert hashlib.sha256(data.content if hasattr(data, "content") else data).hexdigest() == digest, "download differs"

staged = cloud.image.create_image("sdk-staged", filename=path, use_import=True, disk_format="raw",
                                  container_format="bare", wait=True)
assert cloud.image.get_image(staged.id).status == "active"

cloud.image.deactivate_image(image)
assert cloud.image.get_image(image.id).status == "deactivated"
cloud.image.reactivate_image(image)
cloud.image.delete_image(staged)
cloud.image.delete_image(image)
assert cloud.image.find_image(image.id) is None
print("all well")
