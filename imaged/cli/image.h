/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "common/err.h"
#include "common/util.h"

struct cli;

/* The image by id or name; a name that several have is an error that lists their ids. The caller owns *ret.
 */
int image_find(struct cli *cli, const char *name_or_id, json_t **ret, struct err *err);

/* A new record in state "queued", with --os and --version as its properties os_distro and os_version. From
 * here on Ctrl-C is caught (interrupt.h); what the caller calls next ends by it. */
int image_create(struct cli *cli, const char *name, const char *disk_format, char ret_id[UUID_LEN + 1],
                 struct err *err);

/* Removes what an import that failed has left; quiet, because the import's own error matters. Needs a client
 * that is not cancelled, so it makes its own. Returns 0 or -errno; -ENOENT counts as done. */
int image_discard(struct cli *cli, const char *id);

/* The ways of `image add`. */
int image_add_file(struct cli *cli, const char *path, struct err *err);
int image_add_url(struct cli *cli, const char *url, struct err *err);
int image_add_volume(struct cli *cli, const char *volume, struct err *err);

/* An image that the server fills by itself: makes the record, has it started, waits and shows the progress;
 * whatever goes wrong, and Ctrl-C, leaves no image behind. */
struct image_filling {
        const char *source;
        int (*start)(struct cli *cli, const char *source, const char *id, struct err *err);
        const char *doing; /* the bar: "importing" */
        const char *what;  /* what failed: "import http://..." */
        const char *how;   /* what is told of it at the end */
};
int image_fill(struct cli *cli, const char *name, const char *format, const struct image_filling *f,
               struct err *err);

/* The image's name from a path or URL: its last step without the ending. In fresh memory, NULL: out of
 * memory. */
char *image_name_from(const char *path_or_url);

/* "raw", "qcow2", "iso", "vmdk", ... by the ending of a path or URL; NULL where it says nothing. */
const char *image_format_from(const char *path_or_url);

/* What to print once an image is active. */
void image_tell_added(struct cli *cli, const json_t *image, const char *how);
