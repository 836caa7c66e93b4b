/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "common/err.h"

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _unused_ __attribute__((unused))

/* Hands an owning local over: returns its value and leaves NULL (take) or -1 (take_fd) behind. */
#define take(p)                                                                                             \
        __extension__({                                                                                     \
                __typeof__(p) take_value_ = (p);                                                            \
                (p) = NULL;                                                                                 \
                take_value_;                                                                                \
        })
int take_fd(int *fd);

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

/* For _cleanup_: free(), close(), fclose() of what the variable holds. */
void freep(void *p);
void closep(int *fd);
void fclosep(FILE **f);

bool streq(const char *a, const char *b); /* NULL equals NULL only */

/* A fresh random (version 4) UUID in its 36 character text form. */
#define UUID_LEN 36
void uuid_random(char ret[UUID_LEN + 1]);
bool uuid_valid(const char *text); /* lower-case hex in the 8-4-4-4-12 form */

uint64_t random_u64(void);

/* printf into fresh memory; NULL when out of memory. */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Reads a whole file of at most limit bytes; the result is NUL-terminated and the caller's. */
int file_read(const char *path, size_t limit, char **ret, size_t *ret_len, struct err *err);

/* Writes a file so that a reader sees the old or the new content, never a part: temporary name, fsync,
 * rename. */
int file_write(const char *path, const void *data, size_t len, mode_t mode, struct err *err);

/* Creates a folder and its missing parents; one that exists already is fine. */
int mkdir_p(const char *path, mode_t mode, struct err *err);

/* Whole writes and reads on a file descriptor; EINTR is retried. read returns the bytes before end of file.
 */
int write_full(int fd, const void *data, size_t len);
ssize_t read_full(int fd, void *buf, size_t len);

/* "512M", "10G", "1.5T", "4096": bytes, powers of 1024. Returns 0, or -EINVAL / -ERANGE. */
int size_parse(const char *text, uint64_t *ret);
/* "10 GiB", "1.5 TiB", into a caller's buffer of at least 16 bytes; returns buf. */
const char *size_format(uint64_t bytes, char *buf, size_t len);
