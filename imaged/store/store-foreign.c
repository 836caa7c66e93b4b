/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/store-call.h"

int foreign_open(struct store *s, const char *name, struct foreign **ret, struct err *err)
{
        struct foreign *f;
        int r;

        if (!s->engine->foreign)
                return err_set(err, -EOPNOTSUPP, "%s: volumes of others cannot be read", s->url);
        f = calloc(1, sizeof(*f));
        if (f)
                f->name = strdup(name);
        if (!f || !f->name) {
                free(f);
                return err_set(err, -ENOMEM, "volume %s: out of memory", name);
        }
        f->store = s;
        r = ENGINE_CALL(err, s->engine->foreign->open(f, &own));
        if (r < 0) {
                foreign_close(f);
                return r;
        }
        *ret = f;
        return 0;
}

uint64_t foreign_size(const struct foreign *f)
{
        return f->size;
}

int foreign_read(struct foreign *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        if (offset > f->size || len > f->size - offset)
                return err_set(err, -EINVAL,
                               "volume %s: %zu bytes at %" PRIu64 " lie beyond its end at %" PRIu64, f->name,
                               len, offset, f->size);
        return len == 0 ? 0 : ENGINE_CALL(err, f->store->engine->foreign->read(f, buf, len, offset, &own));
}

uint64_t foreign_hole(struct foreign *f, uint64_t offset)
{
        const struct engine_foreign *ops = f->store->engine->foreign;

        return ops->hole && offset < f->size ? MIN_OF(ops->hole(f, offset), f->size - offset) : 0;
}

int foreign_unchanged(struct foreign *f, struct err *err)
{
        return ENGINE_CALL(err, f->store->engine->foreign->unchanged(f, &own));
}

struct foreign *foreign_close(struct foreign *f)
{
        if (!f)
                return NULL;
        f->store->engine->foreign->close(f);
        free(f->name);
        free(f);
        return NULL;
}
