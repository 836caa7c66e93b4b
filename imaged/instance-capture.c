/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "formats/formats.h"
#include "imaged/events.h"
#include "imaged/image.h"
#include "imaged/instance.h"
#include "imaged/intake.h"
#include "imaged/records.h"
#include "imaged/upload.h"

/*
 * POST /v1/instances/{id}/capture {"image": ID}: the disk of a stopped instance, flattened, becomes the
 * content of an image that is queued.
 *
 * Why nobody writes meanwhile, without a mark that a start or a failover would have to wait for: the host
 * that owns the name at epoch E has written "stopped" at E, after its QEMU's end; every later run, wherever,
 * begins with a claim, which moves the name. So the disk was still while it was read if the name is the same
 * afterwards. A start in between is not held up; the capture fails and says so.
 */
#define LOOK_MS 1000

struct capture {
        struct imaged *im;
        json_t *record;        /* the instance's */
        const char *id, *name; /* borrowed from it */
        struct lease lease;
        struct upload *upload;
        int64_t looked_ms;
};

static struct capture *capture_free(struct capture *c)
{
        if (!c)
                return NULL;
        upload_free(c->upload, "this imaged was stopped; capture again");
        json_decref(c->record);
        free(c);
        return NULL;
}

/* The name is what it was when the instance was found stopped. */
static int still(struct capture *c, struct err *err)
{
        struct lease now;
        int r = lease_find(c->im->store, c->id, &now, err);

        c->looked_ms = clock_ms();
        if (r == -ENOENT)
                return err_set(err, -ESTALE, "instance %s was removed meanwhile", c->name);
        if (r < 0)
                return records_wrap(err, r, "instance", c->name);
        if (now.epoch != c->lease.epoch || now.host != c->lease.host)
                return err_set(err, -ESTALE,
                               "instance %s was started meanwhile (its disk went from epoch %llu to %llu): "
                               "stop it and capture again",
                               c->name, (unsigned long long)c->lease.epoch, (unsigned long long)now.epoch);
        return 0;
}

/* If the disk has moved on, the capture's error says so, whichever call failed by it. */
static int failed(struct capture *c, int r, struct err *err)
{
        struct err why = {0};

        if (still(c, &why) != -ESTALE)
                return records_wrap(err, r, "instance", c->name);
        *err = why;
        return -ESTALE;
}

static int look(void *arg, struct err *err)
{
        struct capture *c = arg;

        return clock_ms() - c->looked_ms < LOOK_MS ? 0 : still(c, err);
}

static int reader_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return disk_reader_read(state, buf, len, offset, err);
}

static int golden_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return volume_read(state, buf, len, offset, err);
}

static int take_raw(struct capture *c, const struct source *src, struct err *err)
{
        /* As raw, whatever a guest has written: never guessed. */
        const struct image_info info = {
            .format = IMAGE_RAW, .virtual_size = src->size, .file_size = src->size};
        struct image *img = NULL;
        int r = image_open(src, &info, &img, err);

        if (r == 0)
                r = intake_image(img, c->upload, look, c, err);
        image_close(img);
        return r;
}

static int take_overlay(struct capture *c, const struct source *src, const struct disk_spec *disk,
                        const char *backing, struct err *err)
{
        struct source below = {.read = golden_read};
        struct volume *golden = NULL;
        struct image *img = NULL;
        int r = backing ? volume_open(c->im->store, disk->image, &golden, err) : 0;

        if (golden) {
                below.size = volume_size(golden);
                below.state = golden;
        }
        if (r == 0)
                r = image_open_overlay(src, disk->size, backing, golden ? &below : NULL, &img, err);
        if (r == 0)
                r = intake_image(img, c->upload, look, c, err);
        image_close(img);
        volume_close(golden);
        return r;
}

static int capture(struct capture *c, struct err *err)
{
        struct disk_spec disks[INSTANCE_DISKS];
        struct disk_reader *reader = NULL;
        struct source src = {.read = reader_read};
        const char *backing;
        int r;

        instance_disk_specs(c->record, disks);
        r = disk_reader_open(c->im->store, c->id, &c->lease, &disks[0], &reader, err);
        if (r < 0)
                return failed(c, r, err);
        src.size = disk_reader_size(reader);
        src.state = reader;
        r = disk_reader_qcow2(reader, &backing) ? take_overlay(c, &src, &disks[0], backing, err)
                                                : take_raw(c, &src, err);
        disk_reader_close(reader);
        if (r < 0)
                return failed(c, r, err);
        r = still(c, err);
        return r < 0 ? r : upload_finish(c->upload, err);
}

/* On a worker. */
static void capture_work(void *arg)
{
        struct capture *c = arg;
        struct err err = {0};
        int r = capture(c, &err);

        c->upload = upload_free(c->upload, r < 0 ? err_text(&err) : NULL);
}

static void capture_done(void *arg)
{
        capture_free(arg);
}

/* Stopped by its host's own word about the epoch that the name has; or never run: then nobody owns it. */
static int stopped(const json_t *record, const struct lease *lease, struct err *err)
{
        const json_t *status = json_object_get(record, "status");
        const char *name = json_get_str(record, "name", "");

        if (!streq(json_get_str(record, "wanted", NULL), "stopped"))
                return err_set(err, -EBUSY,
                               "instance %s is %s: a guest writes to its disk at any moment; stop it first "
                               "(wherry stop %s)",
                               name, json_get_str(status, "state", "not stopped"), name);
        if (lease->host != 0 && (!streq(json_get_str(status, "state", NULL), "stopped") ||
                                 json_get_int(status, "host", 0) != lease->host ||
                                 (uint64_t)json_get_int(status, "epoch", 0) != lease->epoch))
                return err_set(err, -EBUSY, "instance %s is not stopped yet: host %u has not said so", name,
                               lease->host);
        return 0;
}

/* The image of the body: the caller's own, and raw, as the disk is. */
static int target(struct http_request *req, struct imaged *im, char ret[UUID_LEN + 1], struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body = NULL, *image = NULL;
        const char *id, *format;
        int r = http_body_json(req, &body, err);

        if (r < 0)
                return r;
        id = json_get_str(body, "image", NULL);
        if (!id || !uuid_valid(id))
                return err_set(err, -EINVAL, "image is missing, or not an image's id");
        r = records_load(im->store, RECORD_IMAGE, id, &image, NULL, err);
        if (r == -ENOENT || (r == 0 && !image_visible(caller_of(req), image)))
                return err_set(err, -ENOENT, "no image %s", id);
        if (r < 0)
                return r;
        if (!image_owned(caller_of(req), image))
                return err_set(err, -EACCES, "image %s belongs to another", id);
        format = json_get_str(image, "disk_format", NULL);
        if (!streq(format, "raw"))
                return err_set(err, -EINVAL, "image %s: its disk_format is %s; a captured disk is raw", id,
                               format ? format : "not set");
        snprintf(ret, UUID_LEN + 1, "%s", id);
        return 0;
}

int instance_on_capture(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        struct capture *c = calloc(1, sizeof(*c));
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        char image[UUID_LEN + 1];
        int r = c ? target(req, im, image, err) : err_set(err, -ENOMEM, "out of memory");

        if (r == 0)
                r = instance_of(req, im, &c->record, err);
        if (r == 0) {
                c->im = im;
                c->id = json_get_str(c->record, "id", "");
                c->name = json_get_str(c->record, "name", "");
                r = instance_lease(im, c->record, &c->lease, err);
        }
        if (r == 0)
                r = stopped(c->record, &c->lease, err);
        if (r == 0) /* now: from the reply on the record shows it */
                r = upload_begin(im, image, "importing", &c->upload, err);
        if (r == 0) {
                reply = json_pack("{s:s,s:s}", "image", image, "instance", c->id);
                event_post(im->events, &(struct event){.kind = "instance-capture",
                                                       .instance = c->id,
                                                       .name = c->name,
                                                       .text = image});
                if (jobs_add(im->imports, capture_work, capture_done, c) < 0)
                        r = err_set(err, -ENOMEM, "out of memory");
        }
        if (r < 0) {
                capture_free(c);
                return r;
        }
        return http_reply_json(req, 202, reply);
}
