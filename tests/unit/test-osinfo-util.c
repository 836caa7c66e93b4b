/* SPDX-License-Identifier: Apache-2.0 */
#include "test-osinfo-util.h"

#include "common/util.h"

struct found btrfs_found(const struct source *src)
{
        struct found f = {0};
        struct err err = {0};

        if (btrfs_look(src, &f.release, &f.architecture, &err) < 0)
                fail_msg("%s", err_text(&err));
        return f;
}

void found_is(const char *what, const struct found *f, const char *id, const char *version,
              const char *architecture)
{
        if (!streq(f->release.id, id) || !streq(f->release.version_id, version) ||
            !streq(f->architecture, architecture))
                fail_msg("%s: %s %s %s", what, f->release.id, f->release.version_id,
                         f->architecture ? f->architecture : "-");
}
