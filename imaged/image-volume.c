/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/json.h"
#include "formats/formats.h"
#include "imaged/image.h"
#include "imaged/intake.h"
#include "imaged/upload.h"

/*
 * An import of what lies on the store's own storage already: a file that an operator put into the store's
 * folder "import", or an RBD image of the same cluster. It is read at any place, so each format can be
 * taken; what a stranger's file is refused for, it is refused for here. For administrators only: whose a
 * volume is nobody can tell, and as a raw image it would show them everything.
 *
 * Nobody is kept from writing to it. It is looked at while it is read, and once more after the last byte: if
 * it is not what it was, nothing of the image stays.
 *
 * With a checksum it is read twice, once in order and once as its format wants it: that it did not change
 * holds for both.
 */
#define LOOK_MS 1000
#define PIECE ((size_t)1 << 20)

struct taking {
        struct imaged *im;
        struct foreign *volume;
        struct upload *upload;
        struct checksum *checksum; /* NULL: none was given */
        enum image_format format;  /* as the record declares it */
        int64_t looked_ms;
};

static struct taking *taking_free(struct taking *t)
{
        if (!t)
                return NULL;
        upload_free(t->upload, "this imaged was stopped; import again");
        foreign_close(t->volume);
        checksum_free(t->checksum);
        free(t);
        return NULL;
}

static int look(void *arg, struct err *err)
{
        struct taking *t = arg;

        if (clock_ms() - t->looked_ms < LOOK_MS)
                return 0;
        t->looked_ms = clock_ms();
        return foreign_unchanged(t->volume, err);
}

static int volume_source_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return foreign_read(state, buf, len, offset, err);
}

static uint64_t volume_source_hole(void *state, uint64_t offset)
{
        return foreign_hole(state, offset);
}

static int checksum_all(struct taking *t, struct err *err)
{
        const uint64_t size = foreign_size(t->volume);
        _cleanup_(freep) uint8_t *buf = malloc(PIECE);
        int r = buf ? 0 : err_set(err, -ENOMEM, "out of memory");

        for (uint64_t at = 0; r == 0 && at < size; at += PIECE) {
                size_t len = (size_t)MIN_OF(size - at, (uint64_t)PIECE);

                r = upload_wanted(t->upload, err);
                if (r == 0)
                        r = look(t, err);
                if (r == 0)
                        r = foreign_read(t->volume, buf, len, at, err);
                if (r == 0)
                        r = checksum_feed(t->checksum, buf, len, err);
                upload_progress(t->upload, at + len, size);
        }
        return r < 0 ? r : checksum_check(t->checksum, err);
}

static int take_volume(struct taking *t, struct err *err)
{
        const struct source src = {.size = foreign_size(t->volume),
                                   .read = volume_source_read,
                                   .hole = volume_source_hole,
                                   .state = t->volume};
        _cleanup_(freep) struct image_info *info = calloc(1, sizeof(*info));
        struct image *img = NULL;
        int r =
            info ? image_inspect(&src, (int)t->format, info, err) : err_set(err, -ENOMEM, "out of memory");

        if (r == 0) /* or the first of the reasons against it */
                r = image_open(&src, info, &img, err);
        if (r == 0 && t->checksum)
                r = checksum_all(t, err);
        if (r == 0)
                r = intake_image(img, t->upload, look, t, err);
        image_close(img);
        if (r == 0)
                r = foreign_unchanged(t->volume, err);
        return r < 0 ? r : upload_finish(t->upload, err);
}

/* On a worker. */
static void taking_work(void *arg)
{
        struct taking *t = arg;
        struct err err = {0};
        int r = take_volume(t, &err);

        t->upload = upload_free(t->upload, r < 0 ? err_text(&err) : NULL);
}

static void taking_done(void *arg)
{
        taking_free(arg);
}

int image_import_volume(struct http_request *req, struct imaged *im, const json_t *record,
                        const char *volume, const char *checksum, struct err *err)
{
        int format = image_format_parse(json_get_str(record, "disk_format", ""));
        struct taking *t;
        int r = 0;

        if (!caller_of(req)->admin)
                return err_set(err, -EACCES,
                               "import method store-volume: only administrators read volumes of the store");
        if (!volume)
                return err_set(err, -EINVAL, "method.volume is missing, or not a string");
        t = calloc(1, sizeof(*t));
        if (!t)
                return err_set(err, -ENOMEM, "out of memory");
        t->im = im;
        t->format = format < 0 ? IMAGE_RAW : (enum image_format)format; /* upload_begin() judges it */
        t->looked_ms = clock_ms();
        if (checksum)
                r = checksum_new(checksum, &t->checksum, err);
        if (r == 0) { /* a name that is wrong is answered at once */
                r = foreign_open(im->store, volume, &t->volume, err);
                r = records_code(r);
        }
        if (r == 0) /* now: from the reply on the record shows it */
                r = upload_begin(im, json_get_str(record, "id", ""), "importing", &t->upload, err);
        if (r == 0 && jobs_add(im->imports, taking_work, taking_done, t) < 0)
                r = err_set(err, -ENOMEM, "out of memory");
        if (r < 0) {
                taking_free(t);
                return r;
        }
        return http_reply_json(req, 202, NULL);
}
