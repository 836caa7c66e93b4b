/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "imaged/image.h"

bool image_owned(const struct caller *c, const json_t *record)
{
        return c->admin || streq(json_get_str(record, "owner", NULL), c->id);
}

bool image_visible(const struct caller *c, const json_t *record)
{
        const char *visibility = json_get_str(record, "visibility", "private");

        if (image_owned(c, record) || streq(visibility, "public") || streq(visibility, "community"))
                return true;
        return streq(visibility, "shared") && json_object_get(json_object_get(record, "members"), c->id);
}

bool image_cataloged_visible(const struct caller *c, const struct cataloged *e)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;

        if (c->admin || streq(e->owner, c->id) || e->visibility == VISIBILITY_PUBLIC ||
            e->visibility == VISIBILITY_COMMUNITY)
                return true;
        if (e->visibility != VISIBILITY_SHARED || !e->members || !strstr(e->text, c->id))
                return false;
        record = json_loads(e->text, 0, NULL);
        return record && image_visible(c, record);
}

int image_of(struct http_request *req, struct imaged *im, enum image_right right, json_t **ret,
             struct err *err)
{
        const struct caller *c = caller_of(req);
        const char *id = http_param(req, "id"), *status;
        _cleanup_(json_decrefpp) json_t *record = NULL;
        bool deleted;
        int r;

        r = uuid_valid(id) ? records_load(im->store, RECORD_IMAGE, id, &record, NULL, err) : -ENOENT;
        if (r < 0 && r != -ENOENT)
                return r;
        status = json_get_str(record, "status", "");
        deleted = streq(status, "pending_delete") || streq(status, "deleted");
        if (r == -ENOENT || !image_visible(c, record) || (deleted && right != IMAGE_UNDELETE) ||
            (deleted && !image_owned(c, record)))
                return err_set(err, -ENOENT, "no image %s", id);
        if (right != IMAGE_SEE && !image_owned(c, record))
                return err_set(err, -EACCES, "image %s belongs to another", id);
        *ret = take(record);
        return 0;
}
