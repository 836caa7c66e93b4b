/* SPDX-License-Identifier: Apache-2.0 */
#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
        char text[sizeof(err->text)]; /* the arguments may point into err->text */
        va_list ap;

        if (!err)
                return code;
        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        err->code = code;
        memcpy(err->text, text, strlen(text) + 1);
        return code;
}

int err_wrap(struct err *err, int code, const char *fmt, ...)
{
        char context[sizeof(err->text)], inner[sizeof(err->text)];
        va_list ap;

        if (!err)
                return code;
        va_start(ap, fmt);
        vsnprintf(context, sizeof(context), fmt, ap);
        va_end(ap);
        snprintf(inner, sizeof(inner), "%s", err->text[0] ? err->text : strerror(-code));
        err->code = code;
        if (snprintf(err->text, sizeof(err->text), "%s: %s", context, inner) < 0)
                err->text[0] = '\0';
        return code;
}

const char *err_text(const struct err *err)
{
        if (!err)
                return "unknown error";
        if (err->text[0])
                return err->text;
        return strerror(err->code < 0 ? -err->code : 0);
}
