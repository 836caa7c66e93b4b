/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/util.h"

void refuse(struct image_info *info, const char *code, const char *field, const char *value,
            const char *limit, const char *message)
{
        struct image_refusal *r;

        if (info->n_refusals == ARRAY_SIZE(info->refusals))
                return;
        r = &info->refusals[info->n_refusals++];
        snprintf(r->code, sizeof(r->code), "%s", code);
        snprintf(r->field, sizeof(r->field), "%s", field);
        snprintf(r->value, sizeof(r->value), "%s", value);
        snprintf(r->limit, sizeof(r->limit), "%s", limit);
        snprintf(r->message, sizeof(r->message), "%s", message);
}

void refuse_number(struct image_info *info, const char *code, const char *field, uint64_t value,
                   uint64_t limit, const char *message)
{
        char v[24], l[24];

        snprintf(v, sizeof(v), "%" PRIu64, value);
        snprintf(l, sizeof(l), "%" PRIu64, limit);
        refuse(info, code, field, v, l, message);
}

void note(struct image_info *info, const char *name, const char *fmt, ...)
{
        struct image_field *f;
        va_list ap;

        if (info->n_fields == ARRAY_SIZE(info->fields))
                return;
        f = &info->fields[info->n_fields++];
        snprintf(f->name, sizeof(f->name), "%s", name);
        va_start(ap, fmt);
        vsnprintf(f->value, sizeof(f->value), fmt, ap);
        va_end(ap);
}

int refusal_error(const struct image_info *info, struct err *err)
{
        const struct image_refusal *r = &info->refusals[0];

        if (info->n_refusals == 0)
                return err_set(err, -EBADMSG, "the image is refused");
        return err_set(err, -EBADMSG, "%s: %s is %s, limit %s: %s", r->code, r->field, r->value, r->limit,
                       r->message);
}

void text_clean(char *ret, size_t room, const uint8_t *text, size_t len)
{
        size_t n = MIN_OF(len, room - 1);

        for (size_t i = 0; i < n; i++)
                ret[i] = text[i] >= 0x20 && text[i] < 0x7f ? (char)text[i] : '?';
        ret[n] = '\0';
}
