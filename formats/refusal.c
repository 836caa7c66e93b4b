/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

/* Any of them may quote the file: a terminal and a JSON document get printable ASCII whatever it held. */
static void text_set(char *ret, size_t room, const char *text)
{
        text_clean(ret, room, (const uint8_t *)text, strlen(text));
}

void refuse(struct image_info *info, const char *code, const char *field, const char *value,
            const char *limit, const char *message)
{
        struct image_refusal *r;

        if (info->n_refusals == ARRAY_SIZE(info->refusals))
                return;
        r = &info->refusals[info->n_refusals++];
        text_set(r->code, sizeof(r->code), code);
        text_set(r->field, sizeof(r->field), field);
        text_set(r->value, sizeof(r->value), value[0] ? value : "empty");
        text_set(r->limit, sizeof(r->limit), limit[0] ? limit : "empty");
        text_set(r->message, sizeof(r->message), message);
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
        char value[sizeof(f->value)];
        va_list ap;

        if (info->n_fields == ARRAY_SIZE(info->fields))
                return;
        f = &info->fields[info->n_fields++];
        va_start(ap, fmt);
        vsnprintf(value, sizeof(value), fmt, ap);
        va_end(ap);
        text_set(f->name, sizeof(f->name), name);
        text_set(f->value, sizeof(f->value), value);
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
