/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "common/util.h"
#include "imaged/store/engine.h"

/* Names of volumes of others, as an administrator gives them: none may lead to what the store keeps itself.
 */

#define PATH_BYTES 380 /* with the folder before it within FILES_PATH_MAX */

static int check_text(const char *name, size_t max, struct err *err)
{
        if (!name || !*name)
                return err_set(err, -EINVAL, "the volume's name is empty");
        if (strlen(name) > max)
                return err_set(err, -EINVAL, "volume \"%.60s...\": its name has %zu bytes, the limit is %zu",
                               name, strlen(name), max);
        for (const char *p = name; *p; p++) {
                if (iscntrl((unsigned char)*p))
                        return err_set(err, -EINVAL, "the volume's name has a control character at byte %zu",
                                       (size_t)(p - name) + 1);
        }
        return 0;
}

int foreign_path_check(const char *path, struct err *err)
{
        int r = check_text(path, PATH_BYTES, err);

        if (r < 0)
                return r;
        if (path[0] == '/')
                return err_set(err, -EINVAL,
                               "volume \"%s\": give its path below the store's folder \"import\"", path);
        for (const char *step = path;; step += strcspn(step, "/") + 1) {
                size_t n = strcspn(step, "/");

                if (n == 0 || (n == 1 && step[0] == '.') || (n == 2 && step[0] == '.' && step[1] == '.'))
                        return err_set(err, -EINVAL, "volume \"%s\": \"%.*s\" is no step of a path", path,
                                       (int)n, step);
                if (!step[n])
                        return 0;
        }
}

/* The store's own RBD images, of this store or of another one: rbd-engine.h has their names. */
static int check_own(const struct foreign_rbd *v, struct err *err)
{
        char instance[STORE_ID_MAX + 1], id[UUID_LEN + 1];
        struct lease lease;

        if (strncmp(v->image, "golden.", 7) == 0)
                return err_set(err, -EINVAL, "volume \"%s\": it is an image of a store already", v->image);
        snprintf(id, sizeof(id), "%.*s", UUID_LEN, v->image);
        if (lease_name_parse(v->image, instance, &lease) == 0 ||
            (uuid_valid(id) && v->image[UUID_LEN] == '.'))
                return err_set(
                    err, -EINVAL,
                    "volume \"%s\": it is the disk of an instance; \"wherry image capture\" makes "
                    "an image of one",
                    v->image);
        return 0;
}

static int part(const char *from, size_t n, const char *what, char ret[FOREIGN_RBD_MAX], struct err *err)
{
        if (n == 0 || n >= FOREIGN_RBD_MAX)
                return err_set(err, -EINVAL, "volume: its %s has %zu bytes; 1 to %d are possible", what, n,
                               FOREIGN_RBD_MAX - 1);
        memcpy(ret, from, n);
        ret[n] = '\0';
        return 0;
}

int foreign_rbd_parse(const char *name, struct foreign_rbd *ret, struct err *err)
{
        struct foreign_rbd v = {};
        const char *at, *slash, *second, *image;
        int r = check_text(name, sizeof(v), err);

        if (r < 0)
                return r;
        slash = strchr(name, '/');
        second = slash ? strchr(slash + 1, '/') : NULL;
        image = second ? second + 1 : slash ? slash + 1 : name;
        at = strchr(name, '@');
        if (strchr(image, '/') || (at && (at < image || strchr(at + 1, '@'))))
                return err_set(err, -EINVAL,
                               "volume \"%s\": write it as [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]", name);
        if (slash)
                r = part(name, (size_t)(slash - name), "pool", v.pool, err);
        if (r == 0 && second)
                r = part(slash + 1, (size_t)(second - slash - 1), "namespace", v.ns, err);
        if (r == 0)
                r = part(image, at ? (size_t)(at - image) : strlen(image), "image", v.image, err);
        if (r == 0 && at)
                r = part(at + 1, strlen(at + 1), "snapshot", v.snap, err);
        if (r == 0)
                r = check_own(&v, err);
        if (r == 0)
                *ret = v;
        return r;
}
