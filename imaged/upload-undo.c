/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/upload-undo.h"

#include <errno.h>

#include "common/json.h"
#include "imaged/daemon.h"
#include "imaged/events.h"
#include "imaged/image.h"
#include "imaged/manifest.h"
#include "imaged/quota.h"
#include "imaged/upload-record.h"
#include "imaged/upload.h"

int undo_seize(struct imaged *im, const char *image, const char *nonce, char ret_mine[UUID_LEN + 1],
               json_t **ret, struct err *err)
{
        struct import_change c = {.image = image, .nonce = nonce, .text = ret_mine};

        uuid_random(ret_mine);
        return image_change(im, image, import_seize, &c, ret, err);
}

int undo_bytes(struct imaged *im, const char *image, const char *mine, const json_t *record, const char *why,
               struct err *err)
{
        struct import_change c = {.image = image, .nonce = mine, .text = why};
        int r = volume_remove(im->store, image, err);

        if (r < 0 && r != -ENOENT)
                return r; /* the record stays as it is: the collector tries again */
        r = manifest_remove(im->store, image, err);
        if (r == 0)
                r = quota_release(im, json_get_str(record, "owner", ""), image, err);
        return r < 0 ? r : image_change(im, image, import_queued, &c, NULL, err);
}

int undo_deleted(struct imaged *im, const char *image, struct err *err)
{
        int r = manifest_remove(im->store, image, err); /* ids do not come back */

        if (r == 0)
                r = volume_remove(im->store, image, err);
        return r == -ENOENT ? 0 : r;
}

void undo_tell(struct imaged *im, const char *image, const char *why)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;

        records_load(im->store, RECORD_IMAGE, image, &record, NULL, NULL);
        event_post(im->events, &(struct event){.kind = "image-failed",
                                               .name = json_get_str(record, "name", image),
                                               .text = why});
}

int upload_collect(struct imaged *im, const char *image, const char *by, struct err *err)
{
        const char *why = "its imaged or its client ended during the upload; send it again";
        _cleanup_(json_decrefpp) json_t *record = NULL;
        char mine[UUID_LEN + 1];
        int r = undo_seize(im, image, by, mine, &record, err);

        if (r == -ENOENT)
                return undo_deleted(im, image, err);
        if (r == 0)
                r = undo_bytes(im, image, mine, record, why, err);
        if (r == 0)
                undo_tell(im, image, why);
        return r;
}
