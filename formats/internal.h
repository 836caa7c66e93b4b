/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"

/* What the files of this folder share and nobody else needs. */

/* Everything that decides about a format's header lies in so many bytes from the start. */
#define FORMAT_HEAD_LEN (128 * 1024)
/* No guest disk is larger: it bounds every table. */
#define FORMAT_SIZE_MAX (UINT64_C(16) << 40)

/* A fuzzer does not find checksums. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define CHECKSUMS_IGNORED true
#else
#define CHECKSUMS_IGNORED false
#endif

/* Adds a refusal; what is beyond the room for them is dropped. */
void refuse(struct image_info *info, const char *code, const char *field, const char *value,
            const char *limit, const char *message);
void refuse_number(struct image_info *info, const char *code, const char *field, uint64_t value,
                   uint64_t limit, const char *message);
/* The first refusal as an error: "CODE: FIELD is VALUE, limit LIMIT: MESSAGE". Returns -EBADMSG. */
int refusal_error(const struct image_info *info, struct err *err);

/* Adds a header field for a person to read; what is beyond the room for them is dropped. */
void note(struct image_info *info, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The guest bytes that compressed data may give: in proportion to the file; a small disk always is. */
#define EXPANSION_MAX 1024u
static inline bool expansion_fits(uint64_t expanded, uint64_t file_size)
{
        return expanded <= UINT64_C(1) << 30 || expanded / EXPANSION_MAX <= file_size;
}

/* What a format is found by. tail: the file's last 512 bytes, NULL where they are not known yet. Refuses
 * what is of two formats, of none that we read, or not the declared one. Fills all of *ret. */
#define TAIL_LEN 512u
void detect(const uint8_t *head, size_t len, const uint8_t *tail, uint64_t file_size, int declared,
            struct image_info *ret);
/* Whether the end of a file is that of a VHD: then it is no raw disk. */
bool tail_is_vhd(const uint8_t *tail);

/* raw, ISO, qcow2: looks at the first min(FORMAT_HEAD_LEN, file_size) bytes, and detects the format first.
 */
struct qcow2;
void head_check(const uint8_t *head, size_t len, const uint8_t *tail, uint64_t file_size, int declared,
                struct image_info *ret, struct qcow2 *ret_qcow2);

/* Checks the volume descriptors; fills label, bootable and refusals. */
void iso_check(const uint8_t *head, size_t len, uint64_t file_size, struct image_info *info);
/* What a second look into the file tells of an ISO that iso_check() has passed. */
int iso_details(const struct source *src, const uint8_t *head, size_t len, struct image_info *info,
                struct err *err);
/* Notes the partition table that a disk's first 1024 bytes or more hold. */
void partitions_note(const uint8_t *head, size_t len, uint64_t disk_size, struct image_info *info);

/* The disk inside of an OVA; what is wrong with the archive is a refusal. */
struct ova {
        uint64_t offset, len; /* the disk's file */
};
int ova_check(const struct source *src, struct ova *ret, struct image_info *info, struct err *err);

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
        int (*extent)(struct image *img, uint64_t offset, uint64_t *ret_len, bool *ret_data,
                      struct err *err);
};
/* How many bytes at a place that a table names are a hole of the file itself, as in a disk of which only the
 * tables were written. */
uint64_t source_hole(const struct source *src, uint64_t offset);
/* Data that an extent looks for at most: whoever reads it piece by piece asks again for each piece, and
 * would else have all tables up to the next hole read as often. */
#define EXTENT_DATA (UINT64_C(1) << 20)
int raw_open(struct image *img, struct err *err);
int qcow2_open(struct image *img, struct err *err);
int qcow2_open_overlay(struct image *img, const char *backing, const struct source *below, struct err *err);
int map_image_open(struct image *img, const struct image_info *info, struct err *err);
int ova_open(struct image *img, struct err *err);
