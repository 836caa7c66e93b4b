/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/upload.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "formats/formats.h"
#include "imaged/daemon.h"
#include "imaged/digest.h"
#include "imaged/events.h"
#include "imaged/image-system.h"
#include "imaged/image.h"
#include "imaged/manifest.h"
#include "imaged/pipeline.h"
#include "imaged/quota.h"
#include "imaged/records.h"
#include "imaged/sparse.h"
#include "imaged/upload-record.h"
#include "imaged/upload-undo.h"

#define ULL(v) ((unsigned long long)(v))
#define SECTOR 512
#define GROW (256ULL << 20) /* by so much a volume of unknown size grows */

struct upload {
        struct imaged *im;
        char image[UUID_LEN + 1], nonce[UUID_LEN + 1], owner[UUID_LEN + 1];
        bool staged;     /* it waits for its import when it is whole */
        bool resumed;    /* the volume has what an earlier one wrote */
        bool open_ended; /* nobody said how large it is */
        enum image_format format;
        struct image_stream *stream;
        struct sparse sparse;

        struct volume *volume;
        uint64_t size; /* of the volume */
        struct digest *digest;
        struct pipeline *pipeline; /* from the volume's creation to its seal */
        bool sealed, finished;

        /* also read by the thread that gives the sign of life */
        atomic_uint_fast64_t done, total; /* bytes of the body; total UINT64_MAX: unknown */
        atomic_uint_fast64_t at;          /* how far into the disk bytes were taken */
        atomic_bool is_sparse;
        atomic_bool lost; /* the record is no longer ours */
        struct upload *next;
};

static int disk_begin(void *state, uint64_t virtual_size, struct err *err)
{
        struct upload *up = state;
        int r;

        if (virtual_size == UINT64_MAX) {
                up->open_ended = true;
                virtual_size = SECTOR; /* the first data makes it larger */
        }
        if (virtual_size == 0 || virtual_size > IMAGE_SIZE_MAX)
                return err_set(err, -EINVAL, "image %s: virtual size %llu bytes; 1 to %llu are possible",
                               up->image, ULL(virtual_size), ULL(IMAGE_SIZE_MAX));
        r = quota_reserve(up->im, up->owner, up->image, virtual_size, err);
        if (r < 0)
                return r;
        if (!up->resumed)
                r = volume_create(up->im->store, up->image, virtual_size, &up->volume, err);
        else if (volume_size(up->volume) != virtual_size)
                r = err_set(err, -EINVAL, "%llu bytes; what there is of it has %llu", ULL(virtual_size),
                            ULL(volume_size(up->volume)));
        if (r < 0)
                return records_wrap(err, r, "image", up->image);
        up->size = virtual_size;
        return pipeline_new(up->volume, up->digest, &up->pipeline, err);
}

static int resize(struct upload *up, uint64_t size, struct err *err)
{
        int r = quota_reserve(up->im, up->owner, up->image, size, err);

        if (r == 0)
                r = pipeline_drain(up->pipeline, err);
        if (r == 0)
                r = volume_resize(up->volume, size, err);
        if (r == 0)
                up->size = size;
        return r < 0 ? records_wrap(err, r, "image", up->image) : 0;
}

/* In large steps; where the quota has no room for one, by as much as is needed. */
static int grow(struct upload *up, uint64_t end, struct err *err)
{
        uint64_t need = (end + SECTOR - 1) / SECTOR * SECTOR;
        int r;

        if (need > IMAGE_SIZE_MAX)
                return err_set(err, -EFBIG, "image %s: the limit is %llu bytes", up->image,
                               ULL(IMAGE_SIZE_MAX));
        r = resize(up, MIN_OF(need + GROW, IMAGE_SIZE_MAX), err);
        return r == -EDQUOT ? resize(up, need, err) : r;
}

static int disk_data(void *state, const void *data, size_t len, uint64_t offset, struct err *err)
{
        struct upload *up = state;
        int r = 0;

        if (up->open_ended && offset + len > up->size)
                r = grow(up, offset + len, err);
        if (r < 0)
                return r;
        r = pipeline_write(up->pipeline, data, len, offset, err);
        if (offset + len > up->at)
                up->at = offset + len;
        return r < 0 ? records_wrap(err, r, "image", up->image) : 0;
}

/* A sparse body is the raw disk itself, whatever it was made of. */
static int decoder_new(struct upload *up, const char *content_type, struct err *err)
{
        const struct image_sink disk = {.begin = disk_begin, .data = disk_data, .state = up};
        const struct sparse_sink sparse = {.begin = disk_begin, .data = disk_data, .state = up};
        uint64_t size;
        int r;

        if (!sparse_type(content_type))
                return image_stream_new(up->format, up->total, &disk, &up->stream, err);
        up->is_sparse = true;
        if (up->format != IMAGE_ISO9660)
                up->format = IMAGE_RAW;
        r = sparse_type_size(content_type, &size, err);
        return r < 0 ? r : sparse_init(&up->sparse, size, &sparse, err);
}

/* A fresh nonce, put into the record by `change`. */
static int upload_new(struct imaged *im, records_change_cb change, struct import_change *c,
                      struct upload **ret, struct err *err)
{
        struct upload *up = calloc(1, sizeof(*up));
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r;

        if (!up)
                return err_set(err, -ENOMEM, "out of memory");
        up->im = im;
        up->total = UINT64_MAX;
        snprintf(up->image, sizeof(up->image), "%s", c->image);
        uuid_random(up->nonce);
        c->nonce = up->nonce;
        r = image_change(im, c->image, change, c, &record, err);
        if (r < 0) {
                free(up);
                return r;
        }
        snprintf(up->owner, sizeof(up->owner), "%s", json_get_str(record, "owner", ""));
        up->staged = streq(c->status, "uploading");
        up->format = (enum image_format)c->format;
        up->at = c->at;
        pthread_mutex_lock(&im->lock);
        up->next = im->uploads;
        im->uploads = up;
        pthread_mutex_unlock(&im->lock);
        *ret = up;
        return 0;
}

int upload_begin(struct imaged *im, const char *image, const char *status, struct upload **ret,
                 struct err *err)
{
        struct import_change c = {.image = image, .status = status, .total = UINT64_MAX};

        return upload_new(im, import_begin, &c, ret, err);
}

int upload_resume(struct imaged *im, const char *image, const char *by, struct upload **ret, struct err *err)
{
        struct import_change c = {.image = image, .text = by, .status = "saving", .total = UINT64_MAX};
        int r = upload_new(im, import_resume, &c, ret, err);

        if (r < 0)
                return r;
        (*ret)->resumed = true;
        r = volume_resume(im->store, image, true, &(*ret)->volume, err);
        return r < 0 ? records_wrap(err, r == -ENOENT ? -ESTALE : r, "image", image) : 0;
}

int upload_format(struct upload *up, const char *content_type, uint64_t size, struct err *err)
{
        bool all = !sparse_type(content_type) && (up->format == IMAGE_RAW || up->format == IMAGE_ISO9660);
        int r;

        up->total = size;
        r = digest_new(up->im->store, up->image, all, &up->digest, err);
        if (r == 0 && up->resumed)
                r = sparse_type(content_type)
                        ? digest_resume(up->digest, up->at, err)
                        : err_set(err, -EINVAL, "only a body of " SPARSE_TYPE " goes on with an upload");
        return r < 0 ? r : decoder_new(up, content_type, err);
}

int upload_wanted(const struct upload *up, struct err *err)
{
        if (up->lost)
                return err_set(err, -ESTALE, "image %s: this upload was ended from elsewhere", up->image);
        if (up->im->stopping)
                return err_set(err, -EHOSTUNREACH, "image %s: this imaged is being stopped; try again",
                               up->image);
        return 0;
}

int upload_push(struct upload *up, const void *buf, size_t len, struct err *err)
{
        int r = upload_wanted(up, err);

        if (r < 0)
                return r;
        up->done += len;
        return up->is_sparse ? sparse_push(&up->sparse, buf, len, err)
                             : image_stream_push(up->stream, buf, len, err);
}

void upload_progress(struct upload *up, uint64_t done, uint64_t total)
{
        up->done = done;
        up->total = total;
}

static int disk_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct upload *up = state;

        return volume_read(up->volume, buf, len, offset, err);
}

/* What claims to be a raw disk must not be a container of any format, nor of two: whoever guesses by the
 * content would take it for one. A stream was checked as it came. */
static int sparse_check(struct upload *up, struct err *err)
{
        const struct source disk = {.size = up->size, .read = disk_read, .state = up};
        struct image_info info;
        int r = image_inspect_quick(&disk, (int)up->format, &info, err);

        if (r < 0)
                return records_wrap(err, r, "image", up->image);
        return info.n_refusals > 0
                   ? err_set(err, -EBADMSG, "%s: %s is %s, limit %s: %s", info.refusals[0].code,
                             info.refusals[0].field, info.refusals[0].value, info.refusals[0].limit,
                             info.refusals[0].message)
                   : 0;
}

static int decoder_finish(struct upload *up, struct err *err)
{
        struct image_info info;
        int r;

        r = up->is_sparse ? sparse_finish(&up->sparse, err) : image_stream_finish(up->stream, &info, err);
        if (r == 0 && up->open_ended)
                r = resize(up, info.virtual_size, err);
        if (r == 0 && !up->volume)
                r = err_set(err, -EBADMSG, "image %s: the content holds no disk", up->image);
        if (r == 0)
                r = pipeline_drain(up->pipeline, err);
        return r == 0 && up->is_sparse ? sparse_check(up, err) : r;
}

int upload_finish(struct upload *up, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *now = NULL;
        _cleanup_(freep) char *location = NULL;
        char hash[DIGEST_DIGITS + 1];
        struct osinfo found = {0};
        struct import_change c = {.image = up->image,
                                  .nonce = up->nonce,
                                  .hash = hash,
                                  .done = up->done,
                                  .total = up->total,
                                  .at = up->at,
                                  .staged = up->staged};
        int r;

        r = decoder_finish(up, err);
        up->pipeline = pipeline_free(up->pipeline);
        /* Still ours? From the seal on, a volume under this id would be taken for whole. */
        if (r == 0)
                r = image_change(up->im, up->image, import_beat, &c, NULL, err);
        if (r == 0) {
                r = volume_seal(up->volume, err);
                up->sealed = true; /* also where it failed: it may have happened */
                if (r < 0)
                        return records_wrap(err, r, "image", up->image);
                r = digest_finish(up->digest, up->volume, up->size, hash, &c.parts, err);
        }
        if (r < 0)
                return records_wrap(err, r, "image", up->image);
        c.size = up->size;
        r = quota_reserve(up->im, up->owner, up->image, up->size, err); /* there may be a quota by now */
        if (r < 0)
                return r;
        if (image_system_find(up->im, up->image, up->volume, up->format == IMAGE_ISO9660, &found))
                c.found = &found;
        if (volume_location(up->im->store, up->image, &location, NULL) == 0)
                c.location = location;
        r = image_change(up->im, up->image, import_active, &c, &now, err);
        if (r == -ETIMEDOUT) /* unknown: the change is made so that it may be asked for again */
                r = image_change(up->im, up->image, import_active, &c, &now, err);
        if (r < 0)
                return r;
        up->finished = true;
        log_info("image %s: %s, %llu bytes, %llu came%s, sha256 %s", up->image,
                 up->staged ? "staged" : "active", ULL(up->size), ULL(up->done),
                 up->resumed ? " to go on with it" : "", hash[0] ? hash : "not made: mostly holes");
        event_post(up->im->events, &(struct event){.kind = up->staged ? "image-staged" : "image-active",
                                                   .name = json_get_str(now, "name", NULL),
                                                   .text = up->image});
        return 0;
}

/* Whether somebody goes on with it or begins again: of what lies there nothing is ours to remove any more.
 */
static bool taken_over(const struct upload *up)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r = records_load(up->im->store, RECORD_IMAGE, up->image, &record, NULL, NULL);
        const char *by = json_get_str(json_object_get(record, "import"), "by", NULL);

        return r < 0 ? r != -ENOENT : by && !streq(by, up->nonce);
}

static int undo(struct upload *up, const char *why, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        char mine[UUID_LEN + 1];
        int r = undo_seize(up->im, up->image, up->nonce, mine, &record, err);

        if (r < 0 && r != -ENOENT && taken_over(up)) {
                up->volume = volume_leave(up->volume);
                return r;
        }
        up->volume = volume_close(up->volume);     /* removes what is not sealed */
        if (r < 0 && r != -ENOENT && r != -ESTALE) /* a full store has room for the record from here on */
                r = undo_seize(up->im, up->image, up->nonce, mine, &record, err);
        if (r == -ENOENT)
                return undo_deleted(up->im, up->image, err);
        return r < 0 ? r : undo_bytes(up->im, up->image, mine, record, why, err);
}

static void list_remove(struct upload *up)
{
        pthread_mutex_lock(&up->im->lock);
        for (struct upload **p = &up->im->uploads; *p; p = &(*p)->next) {
                if (*p == up) {
                        *p = up->next;
                        break;
                }
        }
        pthread_mutex_unlock(&up->im->lock);
}

struct upload *upload_free(struct upload *up, const char *why)
{
        struct err err = {0};
        int r;

        if (!up)
                return NULL;
        list_remove(up);
        image_stream_free(up->stream);
        pipeline_free(up->pipeline);
        if (!up->finished) {
                log_warn("image %s: upload ended after %llu bytes: %s", up->image, ULL(up->done), why);
                r = undo(up, why, &err);
                if (r < 0 && r != -ESTALE)
                        log_warn("image %s: not cleaned up yet: %s", up->image, err_text(&err));
                if (r != -ESTALE) /* its end is for others to tell, who perhaps go on with it */
                        undo_tell(up->im, up->image, why);
        }
        volume_close(up->volume);
        digest_free(up->digest);
        free(up);
        return NULL;
}

/* All that was taken is in the volume before the record says for the last time how far that is. */
static int park(struct upload *up, struct err *err)
{
        struct import_change c = {.image = up->image,
                                  .nonce = up->nonce,
                                  .done = up->done,
                                  .total = up->total,
                                  .at = up->at,
                                  .resumable = true};
        int r = up->pipeline ? pipeline_drain(up->pipeline, err) : 0;

        if (r < 0)
                return r;
        up->pipeline = pipeline_free(up->pipeline);
        up->volume = volume_leave(up->volume);
        return image_change(up->im, up->image, import_beat, &c, NULL, err);
}

struct upload *upload_park(struct upload *up, const char *why)
{
        struct err err = {0};

        if (!up || !up->is_sparse || up->staged || !up->volume || up->sealed || up->lost)
                return upload_free(up, why);
        list_remove(up); /* nobody gives a sign of life of it from here on */
        if (park(up, &err) < 0)
                return upload_free(up, err_text(&err));
        log_info("image %s: upload stopped after %llu bytes: %s; what came stays for another try", up->image,
                 ULL(up->done), why);
        digest_free(up->digest);
        free(up);
        return NULL;
}

/* nonce NULL: of any; who goes on with an image may be here as well, beside the one that it was taken from.
 */
static void cancel(struct imaged *im, const char *image, const char *nonce)
{
        pthread_mutex_lock(&im->lock);
        for (struct upload *up = im->uploads; up; up = up->next) {
                if (streq(up->image, image) && (!nonce || streq(up->nonce, nonce)))
                        up->lost = true;
        }
        pthread_mutex_unlock(&im->lock);
}

void upload_cancel(struct imaged *im, const char *image)
{
        cancel(im, image, NULL);
}

/* The list's lock is not held during the calls to the store: an upload may end meanwhile, so its words are
 * copied. */
void upload_beat_all(struct imaged *im)
{
        struct beat {
                char image[UUID_LEN + 1], nonce[UUID_LEN + 1];
                uint64_t done, total, at;
                bool resumable;
        } *beats = NULL;
        size_t n = 0, i = 0;

        pthread_mutex_lock(&im->lock);
        for (struct upload *up = im->uploads; up; up = up->next)
                n++;
        beats = calloc(n + 1, sizeof(*beats));
        for (struct upload *up = im->uploads; beats && up; up = up->next, i++) {
                memcpy(beats[i].image, up->image, sizeof(up->image));
                memcpy(beats[i].nonce, up->nonce, sizeof(up->nonce));
                beats[i].done = up->done;
                beats[i].total = up->total;
                beats[i].at = up->at;
                beats[i].resumable = up->is_sparse;
        }
        pthread_mutex_unlock(&im->lock);
        for (size_t k = 0; k < i; k++) {
                struct import_change c = {.image = beats[k].image,
                                          .nonce = beats[k].nonce,
                                          .done = beats[k].done,
                                          .total = beats[k].total,
                                          .at = beats[k].at,
                                          .resumable = beats[k].resumable};
                struct err err = {0};
                int r = image_change(im, c.image, import_beat, &c, NULL, &err);

                if (r == -ESTALE || r == -ENOENT)
                        cancel(im, c.image, c.nonce);
                else if (r < 0)
                        log_warn("image %s: no sign of life: %s", c.image, err_text(&err));
        }
        free(beats);
}
