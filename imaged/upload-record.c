/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/upload-record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"
#include "formats/formats.h"
#include "imaged/image-system.h"
#include "imaged/image.h"
#include "imaged/manifest.h"

static int import_is(const json_t *record, const struct import_change *c, struct err *err)
{
        if (streq(json_get_str(json_object_get(record, "import"), "by", NULL), c->nonce))
                return 0;
        return err_set(err, -ESTALE, "image %s: this upload was ended from elsewhere; it is %s now",
                       c->image, json_get_str(record, "status", "unknown"));
}

static json_t *import_json(const struct import_change *c)
{
        return json_pack("{s:s,s:I,s:o,s:I,s:b}", "by", c->nonce, "done", (json_int_t)c->done, "total",
                         c->total == UINT64_MAX ? json_null() : json_integer((json_int_t)c->total), "at",
                         (json_int_t)c->at, "resumable", c->resumable);
}

int import_begin(json_t *record, void *arg, struct err *err)
{
        struct import_change *c = arg;
        const char *status = json_get_str(record, "status", "unknown"),
                   *format = json_get_str(record, "disk_format", NULL);

        if (!streq(status, "queued"))
                return err_set(err, -EEXIST, "image %s is %s; bytes are taken only while it is queued",
                               c->image, status);
        if (!format || !streq(json_get_str(record, "container_format", NULL), "bare"))
                return err_set(err, -EINVAL,
                               "image %s: its %s is not set; it has to be before its bytes come", c->image,
                               format ? "container_format" : "disk_format");
        c->format = image_format_parse(format);
        if (c->format < 0)
                return err_set(err, -EINVAL, "image %s: disk format %s", c->image, format);
        image_set(record, "status", json_string(c->status));
        json_object_set_new(record, "import", import_json(c));
        json_object_del(record, "import_error");
        return 0;
}

bool import_open(const json_t *record)
{
        const json_t *import = json_object_get(record, "import");

        return json_is_object(import) && streq(json_get_str(record, "status", NULL), "saving") &&
               !json_get_bool(import, "ending", false);
}

bool import_resumable(const json_t *record)
{
        return import_open(record) && json_get_bool(json_object_get(record, "import"), "resumable", false);
}

int import_resume(json_t *record, void *arg, struct err *err)
{
        struct import_change *c = arg;
        const struct import_change was = {.image = c->image, .nonce = c->text};
        int r = import_is(record, &was, err);

        if (r < 0)
                return r;
        if (!import_open(record))
                return err_set(err, -EEXIST, "image %s is %s: there is no upload to go on with", c->image,
                               json_get_str(record, "status", "unknown"));
        c->format = image_format_parse(json_get_str(record, "disk_format", ""));
        c->at = (uint64_t)json_get_int(json_object_get(record, "import"), "at", 0);
        c->resumable = true;
        json_object_set_new(record, "import", import_json(c));
        return c->format < 0 ? err_set(err, -EIO, "image %s: its record has no disk_format", c->image) : 0;
}

int import_beat(json_t *record, void *arg, struct err *err)
{
        struct import_change *c = arg;
        int r = import_is(record, c, err);

        if (r == 0)
                json_object_set_new(record, "import", import_json(c));
        return r;
}

int import_touch(json_t *record, void *arg, struct err *err)
{
        return import_is(record, arg, err); /* as it is, under a new version */
}

/* Takes the record away from `nonce`: its holder's next change fails. */
int import_seize(json_t *record, void *arg, struct err *err)
{
        struct import_change *c = arg;
        int r = import_is(record, c, err);

        if (r < 0)
                return r;
        json_object_set_new(json_object_get(record, "import"), "by", json_string(c->text));
        json_object_set_new(json_object_get(record, "import"), "ending", json_true());
        return 0;
}

int import_queued(json_t *record, void *arg, struct err *err)
{
        struct import_change *c = arg;
        int r = import_is(record, c, err);

        if (r < 0)
                return r;
        image_set(record, "status", json_string("queued"));
        json_object_set_new(record, "import", json_null());
        image_set(record, "import_error", json_string(c->text));
        return 0;
}

/* hash "": there is none. */
static void set_active(json_t *record, json_int_t size, const char *hash, const char *location)
{
        const char *format = json_get_str(record, "disk_format", NULL);

        image_set(record, "status", json_string("active"));
        json_object_del(record, "staged");
        json_object_set_new(record, "size", json_integer(size));
        json_object_set_new(record, "virtual_size", json_integer(size));
        json_object_set_new(record, "os_hash_algo", hash[0] ? json_string("sha256") : json_null());
        json_object_set_new(record, "os_hash_value", hash[0] ? json_string(hash) : json_null());
        if (location)
                json_object_set_new(record, "direct_url", json_string(location));
        if (format && !streq(format, "raw") && !streq(format, "iso")) { /* it was converted on its way in */
                json_object_set_new(record, "source_format", json_string(format));
                json_object_set_new(record, "disk_format", json_string("raw"));
        }
}

int import_active(json_t *record, void *arg, struct err *err)
{
        struct import_change *c = arg;
        int r;

        if (streq(json_string_value(json_path(record, "manifest.by")), c->nonce))
                return 1; /* the reply of the first time got lost */
        r = import_is(record, c, err);
        if (r < 0)
                return r;
        json_object_set_new(record, "import", json_null());
        json_object_set_new(record, "manifest",
                            json_pack("{s:s,s:i,s:i,s:s}", "algorithm", MANIFEST_ALGORITHM, "chunk",
                                      (int)MANIFEST_CHUNK, "parts", (int)c->parts, "by", c->nonce));
        if (c->found)
                image_system_set(record, c->found);
        if (c->staged)
                image_set(record, "staged",
                          json_pack("{s:I,s:s,s:s?}", "size", (json_int_t)c->size, "hash", c->hash,
                                    "location", c->location));
        else
                set_active(record, (json_int_t)c->size, c->hash, c->location);
        return 0;
}

int import_promote(json_t *record, void *arg, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *staged = json_incref(json_object_get(record, "staged"));
        const char *status = json_get_str(record, "status", "unknown");

        if (!streq(status, "uploading") || !json_is_object(staged))
                return err_set(err, -EBUSY, "image %s is %s; glance-direct takes what was staged",
                               (const char *)arg, status);
        set_active(record, json_get_int(staged, "size", 0), json_get_str(staged, "hash", ""),
                   json_get_str(staged, "location", NULL));
        return 0;
}
