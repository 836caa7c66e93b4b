/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"

/* What the files of this folder share and nobody else needs. */

/* Everything that decides about a format's header lies in so many bytes from the start. */
#define FORMAT_HEAD_LEN (128 * 1024)
/* No guest disk is larger: it bounds every table. */
#define FORMAT_SIZE_MAX (UINT64_C(16) << 40)

/* Adds a refusal; what is beyond the room for them is dropped. */
void refuse(struct image_info *info, const char *code, const char *field, const char *value, const char *limit,
            const char *message);
void refuse_number(struct image_info *info, const char *code, const char *field, uint64_t value, uint64_t limit,
                   const char *message);
/* The first refusal as an error: "CODE: FIELD is VALUE, limit LIMIT: MESSAGE". Returns -EBADMSG. */
int refusal_error(const struct image_info *info, struct err *err);

/* Looks at the first min(FORMAT_HEAD_LEN, file_size) bytes: format, declared or not, and the header. Fills all of *ret. */
struct qcow2;
void head_check(const uint8_t *head, size_t len, uint64_t file_size, int declared, struct image_info *ret,
                struct qcow2 *ret_qcow2);

/* Checks the volume descriptors; fills label, bootable and refusals. */
void iso_check(const uint8_t *head, size_t len, uint64_t file_size, struct image_info *info);

/* Text of a stranger, for a message: printable ASCII only, cut to fit. */
void text_clean(char *ret, size_t room, const uint8_t *text, size_t len);

/* One format's way to be read; every member is required. */
struct image {
        const struct image_ops *ops;
        struct source src;
        uint64_t size;
        void *state;
};
struct image_ops {
        void (*close)(void *state);
        int (*read)(struct image *img, uint8_t *buf, size_t len, uint64_t offset, struct err *err);
        int (*extent)(struct image *img, uint64_t offset, uint64_t *ret_len, bool *ret_data, struct err *err);
};
int raw_open(struct image *img, struct err *err);
int qcow2_open(struct image *img, struct err *err);
