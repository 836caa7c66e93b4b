/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/err.h"
#include "imaged/osinfo/osinfo.h"

struct imaged;
struct volume;

/*
 * Which system is on an image whose bytes are all there, found by the helper process (osinfo.h) and by
 * nothing in this one. Returns 1 where something was found, 0 where nothing was, and that also after a
 * failure, which is logged: an import never fails for it. Takes OSINFO_TIME_MS at most, and waits as long
 * for a place where many images arrive at once.
 */
int image_system_find(struct imaged *im, const char *image, struct volume *volume, bool iso,
                      struct osinfo *ret);

/*
 * Puts what was found into the image's record: all of it as the member `detected`, and by the image API's
 * common names (os_distro, os_version, os_type, architecture, hw_firmware_type, min_ram, min_disk) where
 * nobody said anything else. Where a user named another system, its version and needs stay as they are.
 */
void image_system_set(json_t *record, const struct osinfo *found);
