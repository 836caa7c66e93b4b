/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "imaged/image.h"

/*
 * Members: with whom an image is shared, in its record as {ID: {"status", "created_at", "updated_at"}}. A
 * member sees the image by its id at once, in lists once it has accepted.
 */

static json_t *member_view(const char *image, const char *id, const json_t *member)
{
        return json_pack("{s:s,s:s,s:O,s:O,s:O,s:s}", "image_id", image, "member_id", id, "status",
                         json_object_get(member, "status"), "created_at",
                         json_object_get(member, "created_at"), "updated_at",
                         json_object_get(member, "updated_at"), "schema", "/v2/schemas/member");
}

static int member_reply(struct http_request *req, const json_t *record, const char *id, struct err *err)
{
        const char *image = http_param(req, "id");
        const json_t *member = json_object_get(json_object_get(record, "members"), id);
        _cleanup_(json_decrefpp) json_t *view = NULL;

        if (!member)
                return err_set(err, -ENOENT, "image %s has no member %s", image, id);
        view = member_view(image, id, member);
        return http_reply_json(req, 200, view);
}

int image_on_member_list(struct http_request *req, void *userdata, struct err *err)
{
        const struct caller *c = caller_of(req);
        _cleanup_(json_decrefpp) json_t *record = NULL, *reply = NULL;
        const char *id;
        json_t *member, *list;
        int r = image_of(req, userdata, IMAGE_SEE, &record, err);

        if (r < 0)
                return r;
        if (!streq(json_get_str(record, "visibility", NULL), "shared") && !image_owned(c, record))
                return err_set(err, -EACCES, "image %s belongs to another", http_param(req, "id"));
        list = json_array();
        reply = json_pack("{s:o,s:s}", "members", list, "schema", "/v2/schemas/members");
        json_object_foreach (json_object_get(record, "members"), id, member) {
                if (image_owned(c, record) || streq(id, c->id)) /* members do not see each other */
                        json_array_append_new(list, member_view(http_param(req, "id"), id, member));
        }
        return http_reply_json(req, 200, reply);
}

int image_on_member_show(struct http_request *req, void *userdata, struct err *err)
{
        const struct caller *c = caller_of(req);
        const char *id = http_param(req, "member");
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r = image_of(req, userdata, IMAGE_SEE, &record, err);

        if (r == 0 && !image_owned(c, record) && !streq(id, c->id))
                return err_set(err, -ENOENT, "image %s has no member %s", http_param(req, "id"), id);
        return r < 0 ? r : member_reply(req, record, id, err);
}

static int change_add(json_t *record, void *arg, struct err *err)
{
        const char *id = arg, *image = json_get_str(record, "id", "");
        json_t *members = json_object_get(record, "members");
        char at[CLOCK_STAMP_LEN + 1];

        if (!streq(json_get_str(record, "visibility", NULL), "shared"))
                return err_set(err, -EACCES,
                               "image %s is %s; only one with the visibility shared has members", image,
                               json_get_str(record, "visibility", "private"));
        if (!members) {
                members = json_object();
                json_object_set_new(record, "members", members);
        }
        if (json_object_get(members, id))
                return err_set(err, -EEXIST, "image %s has the member %s already", image, id);
        if (json_object_size(members) >= IMAGE_MEMBERS_MAX)
                return err_set(err, -EFBIG, "image %s has %zu members, the limit is %d", image,
                               json_object_size(members), IMAGE_MEMBERS_MAX);
        clock_stamp(at);
        json_object_set_new(
            members, id,
            json_pack("{s:s,s:s,s:s}", "status", "pending", "created_at", at, "updated_at", at));
        return 0;
}

int image_on_member_add(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL, *body = NULL, *now = NULL;
        const char *id;
        int r = image_of(req, userdata, IMAGE_CHANGE, &record, err);

        if (r == 0)
                r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        id = json_get_str(body, "member", NULL);
        if (!id || !id[0] || strlen(id) > UUID_LEN)
                return err_set(err, -EINVAL, "member: a string of 1 to %d bytes is needed", UUID_LEN);
        r = image_change(userdata, http_param(req, "id"), change_add, (void *)id, &now, err);
        return r < 0 ? r : member_reply(req, now, id, err);
}

struct member_change {
        const char *id, *status;
};

static int change_status(json_t *record, void *arg, struct err *err)
{
        const struct member_change *m = arg;
        json_t *member = json_object_get(json_object_get(record, "members"), m->id);
        char at[CLOCK_STAMP_LEN + 1];

        if (!member)
                return err_set(err, -ENOENT, "image %s has no member %s", json_get_str(record, "id", ""),
                               m->id);
        json_object_set_new(member, "status", json_string(m->status));
        json_object_set_new(member, "updated_at", json_string(clock_stamp(at)));
        return 0;
}

/* Whether to accept is the member's own affair, not the owner's. */
int image_on_member_set(struct http_request *req, void *userdata, struct err *err)
{
        const struct caller *c = caller_of(req);
        struct member_change m = {.id = http_param(req, "member")};
        _cleanup_(json_decrefpp) json_t *record = NULL, *body = NULL, *now = NULL;
        int r = image_of(req, userdata, IMAGE_SEE, &record, err);

        if (r == 0)
                r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        if (!c->admin && !streq(m.id, c->id))
                return err_set(err, image_owned(c, record) ? -EACCES : -ENOENT,
                               "only member %s itself accepts or rejects", m.id);
        m.status = json_get_str(body, "status", "");
        if (!streq(m.status, "accepted") && !streq(m.status, "pending") && !streq(m.status, "rejected"))
                return err_set(err, -EINVAL, "status \"%s\": accepted, pending and rejected are possible",
                               m.status);
        r = image_change(userdata, http_param(req, "id"), change_status, &m, &now, err);
        return r < 0 ? r : member_reply(req, now, m.id, err);
}

static int change_remove(json_t *record, void *arg, struct err *err)
{
        if (json_object_del(json_object_get(record, "members"), arg) < 0)
                return err_set(err, -ENOENT, "image %s has no member %s", json_get_str(record, "id", ""),
                               (const char *)arg);
        return 0;
}

int image_on_member_remove(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r = image_of(req, userdata, IMAGE_CHANGE, &record, err);

        if (r == 0)
                r = image_change(userdata, http_param(req, "id"), change_remove,
                                 (void *)http_param(req, "member"), NULL, err);
        return r < 0 ? r : http_reply_json(req, 204, NULL);
}
