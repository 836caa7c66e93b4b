/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/store-call.h"

#define VOLUME_MAX (UINT64_C(1) << 50) /* bytes; far below where an off_t ends */

static int check_image(struct store *s, const char *image, struct err *err)
{
        if (!store_id_valid(image))
                return err_set(err, -EINVAL, "image id \"%.80s\": not 1 to %d characters of A-Z a-z 0-9 _ -",
                               image ? image : "", STORE_ID_MAX);
        if (!s->engine->volumes)
                return err_set(err, -EOPNOTSUPP, "%s: the engine keeps no images", s->url);
        return 0;
}

static struct volume *volume_new(struct store *s, const char *image, uint64_t size)
{
        struct volume *v = calloc(1, sizeof(*v));

        if (!v)
                return NULL;
        v->store = s;
        v->size = size;
        strcpy(v->image, image); /* its length was checked */
        return v;
}

static int finish(struct volume *v, int r, struct volume **ret)
{
        if (r < 0) {
                volume_close(v);
                return r;
        }
        *ret = v;
        return 0;
}

int volume_create(struct store *s, const char *image, uint64_t size, struct volume **ret, struct err *err)
{
        struct volume *v;
        int r = check_image(s, image, err);

        if (r < 0)
                return r;
        if (size == 0 || size > VOLUME_MAX)
                return err_set(err, -EINVAL, "image %s: size %" PRIu64 ", not 1 to %" PRIu64, image, size,
                               VOLUME_MAX);
        v = volume_new(s, image, size);
        if (!v)
                return err_set(err, -ENOMEM, "image %s: out of memory", image);
        return finish(v, ENGINE_CALL(err, s->engine->volumes->create(v, &own)), ret);
}

int volume_open(struct store *s, const char *image, struct volume **ret, struct err *err)
{
        struct volume *v;
        int r = check_image(s, image, err);

        if (r < 0)
                return r;
        v = volume_new(s, image, 0);
        if (!v)
                return err_set(err, -ENOMEM, "image %s: out of memory", image);
        return finish(v, ENGINE_CALL(err, s->engine->volumes->open(v, &own)), ret);
}

int volume_resume(struct store *s, const char *image, bool take, struct volume **ret, struct err *err)
{
        struct volume *v;
        int r = check_image(s, image, err);

        if (r < 0)
                return r;
        if (!s->engine->volumes->resume)
                return err_set(err, -ENOENT, "image %s: nothing was left of it", image);
        v = volume_new(s, image, 0);
        if (!v)
                return err_set(err, -ENOMEM, "image %s: out of memory", image);
        return finish(v, ENGINE_CALL(err, s->engine->volumes->resume(v, take, &own)), ret);
}

static int check_range(const struct volume *v, size_t len, uint64_t offset, struct err *err)
{
        if (offset > v->size || len > v->size - offset)
                return err_set(err, -EINVAL,
                               "image %s: %zu bytes at %" PRIu64 " lie beyond its end at %" PRIu64, v->image,
                               len, offset, v->size);
        return 0;
}

int volume_write(struct volume *v, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        int r = check_range(v, len, offset, err);

        if (r < 0)
                return r;
        if (v->sealed)
                return err_set(err, -EROFS, "image %s is sealed", v->image);
        return len == 0 ? 0 : ENGINE_CALL(err, v->store->engine->volumes->write(v, buf, len, offset, &own));
}

int volume_resize(struct volume *v, uint64_t size, struct err *err)
{
        int r;

        if (v->sealed)
                return err_set(err, -EROFS, "image %s is sealed", v->image);
        if (size == 0 || size > VOLUME_MAX)
                return err_set(err, -EINVAL, "image %s: size %" PRIu64 ", not 1 to %" PRIu64, v->image, size,
                               VOLUME_MAX);
        if (size == v->size)
                return 0;
        r = ENGINE_CALL(err, v->store->engine->volumes->resize(v, size, &own));
        if (r == 0)
                v->size = size;
        return r;
}

int volume_seal(struct volume *v, struct err *err)
{
        int r;

        if (v->sealed)
                return 0;
        r = ENGINE_CALL(err, v->store->engine->volumes->seal(v, &own));
        if (r < 0)
                return r;
        v->sealed = true;
        return 0;
}

int volume_read(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err)
{
        int r = check_range(v, len, offset, err);

        if (r < 0)
                return r;
        return len == 0 ? 0 : ENGINE_CALL(err, v->store->engine->volumes->read(v, buf, len, offset, &own));
}

uint64_t volume_size(const struct volume *v)
{
        return v->size;
}

struct volume *volume_close(struct volume *v)
{
        if (!v)
                return NULL;
        v->store->engine->volumes->close(v);
        free(v);
        return NULL;
}

struct volume *volume_leave(struct volume *v)
{
        if (v)
                v->left = true;
        return volume_close(v);
}

int volume_remove(struct store *s, const char *image, struct err *err)
{
        int r = check_image(s, image, err);

        return r < 0 ? r : ENGINE_CALL(err, s->engine->volumes->remove(s, image, &own));
}

int volume_location(struct store *s, const char *image, char **ret, struct err *err)
{
        int r = check_image(s, image, err);

        if (r < 0)
                return r;
        if (!s->engine->volumes->location)
                return err_set(err, -EOPNOTSUPP, "%s: others cannot be told where an image lies", s->url);
        return ENGINE_CALL(err, s->engine->volumes->location(s, image, ret, &own));
}

int volume_attach(struct store *s, const char *image, struct attach *ret, struct err *err)
{
        struct attach a = {};
        int r = check_image(s, image, err);

        if (r < 0)
                return r;
        if (!s->engine->volumes->attach)
                return err_set(err, -EOPNOTSUPP, "%s: QEMU cannot open what this engine keeps", s->url);
        r = ENGINE_CALL(err, s->engine->volumes->attach(s, image, &a, &own));
        if (r >= 0)
                *ret = a;
        return r;
}
