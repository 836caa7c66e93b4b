/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/json.h"
#include "imaged/events.h"
#include "imaged/image.h"
#include "imaged/index.h"
#include "imaged/manifest.h"
#include "imaged/quota.h"
#include "imaged/upload.h"

/*
 * The end of an image:
 *
 *   active ──DELETE──> pending_delete ──collector──> deleted ──> bytes and record gone
 *      ^───undelete──────────'
 *
 * pending_delete is out of everybody's sight and takes no new instances (a creation looks at the status
 * after it wrote its own record). It ends, by a compare-and-swap to `deleted`, once its time for an undelete
 * is over and no instance uses the image any more; from there nothing leads back. An image that was never
 * active, or is purged, has no such time.
 */
/* A list may lag behind by a second; so long after the record stopped new users, it shows all there are. */
#define LIST_LAG_MS 1200
#define USERS_AGE_MS 500 /* what one list of the instances may serve, for many deleted images */

static int users_one(void *arg, const struct indexed *e)
{
        return streq(e->image, arg);
}

static bool can_come_back(const json_t *record)
{
        const char *before = json_get_str(record, "status_before", "");

        return (streq(before, "active") || streq(before, "deactivated")) &&
               !json_get_bool(record, "purge", false);
}

static bool time_over(const struct imaged *im, const json_t *record)
{
        struct tm tm = {0};

        if (!can_come_back(record) ||
            !strptime(json_get_str(record, "deleted_at", ""), "%Y-%m-%dT%H:%M:%S", &tm))
                return true;
        return time(NULL) >= timegm(&tm) + im->undelete_s;
}

struct deleting {
        const char *id;
        bool purge;
};

static int change_deleting(json_t *record, void *arg, struct err *err)
{
        const struct deleting *d = arg;
        const char *status = json_get_str(record, "status", "queued");
        char at[CLOCK_STAMP_LEN + 1];

        if (streq(status, "deleted") || (streq(status, "pending_delete") && !d->purge))
                return 1;
        if (json_get_bool(record, "protected", false))
                return err_set(err, -EACCES, "image %s is protected; unprotect it first", d->id);
        if (d->purge)
                json_object_set_new(record, "purge", json_true());
        if (streq(status, "pending_delete"))
                return 0;
        json_object_set_new(record, "status_before", json_string(status));
        json_object_set_new(record, "import", json_null());
        json_object_set_new(record, "deleted_at", json_string(clock_stamp(at)));
        image_set(record, "status", json_string("pending_delete"));
        return 0;
}

static int change_waits(json_t *record, void *arg, struct err *err)
{
        image_set(record, "status", json_string("pending_delete"));
        return 0;
}

/* The record says deleted: nobody brings it back. */
static int remove_bytes(struct imaged *im, const char *id, const json_t *record, struct err *err)
{
        uint64_t version;
        _cleanup_(json_decrefpp) json_t *now = NULL;
        int r = volume_remove(im->store, id, err);

        if (r == -EBUSY) { /* a disk of it is left that no record tells of */
                r = image_change(im, id, change_waits, NULL, NULL, err);
                return r < 0 ? r : 0;
        }
        if (r < 0 && r != -ENOENT)
                return records_code(r);
        r = manifest_remove(im->store, id, err);
        if (r == 0)
                r = quota_release(im, json_get_str(record, "owner", ""), id, err);
        if (r == 0)
                r = records_load(im->store, RECORD_IMAGE, id, &now, &version, err);
        if (r == 0)
                r = image_save(im, id, version, NULL, err);
        if (r == -ENOENT) { /* another imaged was first */
                catalog_put(im->catalog, id, NULL);
                return 1;
        }
        if (r < 0)
                return r;
        event_post(
            im->events,
            &(struct event){.kind = "image-deleted", .name = json_get_str(record, "name", id), .text = id});
        return 1;
}

int image_delete_step(struct imaged *im, const char *id, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        const char *status;
        uint64_t version;
        int r = records_load(im->store, RECORD_IMAGE, id, &record, &version, err);

        if (r < 0)
                return r;
        status = json_get_str(record, "status", "");
        if (streq(status, "deleted"))
                return remove_bytes(im, id, record, err);
        if (!streq(status, "pending_delete") || !time_over(im, record))
                return 0;
        r = index_each(im->index, USERS_AGE_MS, users_one, (void *)id, err);
        if (r != 0)
                return r < 0 ? r : 0;
        image_set(record, "status", json_string("deleted"));
        r = image_save(im, id, version, record, err); /* fails where it was undeleted since */
        return r < 0 ? r : remove_bytes(im, id, record, err);
}

int image_on_delete(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *purge = http_query(req, "purge");
        struct deleting d = {.id = http_param(req, "id"), .purge = streq(purge, "true")};
        _cleanup_(json_decrefpp) json_t *record = NULL, *now = NULL;
        struct err later = {0};
        bool queued;
        int r;

        r = image_of(req, im, d.purge ? IMAGE_UNDELETE : IMAGE_CHANGE, &record, err);
        if (r < 0)
                return r;
        queued = streq(json_get_str(record, "status", NULL), "queued");
        r = image_change(im, d.id, change_deleting, &d, &now, err);
        if (r < 0)
                return r == -ENOENT ? err_set(err, r, "no image %s", d.id) : r;
        upload_cancel(im, d.id);
        if (time_over(im, now)) {
                if (!queued)
                        poll(NULL, 0, LIST_LAG_MS);
                image_delete_step(im, d.id, &later); /* what cannot be done now the collector does */
        }
        return http_reply_json(req, 204, NULL);
}

static int change_undelete(json_t *record, void *arg, struct err *err)
{
        const char *status = json_get_str(record, "status", "unknown");

        if (!streq(status, "pending_delete"))
                return err_set(err, -EBUSY, "image %s is %s; only one that is pending_delete comes back",
                               (const char *)arg, status);
        if (!can_come_back(record))
                return err_set(err, -EBUSY, "image %s is being removed for good", (const char *)arg);
        image_set(record, "status", json_string(json_get_str(record, "status_before", "active")));
        json_object_del(record, "status_before");
        json_object_del(record, "deleted_at");
        return 0;
}

/* POST /v2/images/{id}/actions/undelete: ours, the Image API has none. */
int image_on_undelete(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *id = http_param(req, "id");
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r = image_of(req, im, IMAGE_UNDELETE, &record, err);

        if (r == 0)
                r = image_change(im, id, change_undelete, (void *)id, NULL, err);
        if (r < 0)
                return r;
        event_post(im->events, &(struct event){.kind = "image-undeleted",
                                               .name = json_get_str(record, "name", id),
                                               .text = id});
        return http_reply_json(req, 204, NULL);
}
