/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What went wrong, for a person. The caller owns the buffer (usually on its stack, zero-initialised) and
 * passes it last to every function that has more than one cause of failure; it is set exactly when the
 * function fails. A NULL err is allowed everywhere and drops the text.
 */
struct err {
        int code; /* -errno, 0 while unset */
        char text[512];
};

/* Sets err and returns code (a -errno), so that `return err_set(err, -EINVAL, "...")` reads well. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the text that a lower layer set. Returns code. */
int err_wrap(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The text, never NULL: falls back to strerror of the code. */
const char *err_text(const struct err *err);
