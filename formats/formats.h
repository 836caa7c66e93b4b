/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/*
 * Image formats over a bounded byte source. What strangers bring is read only through source_read(), every
 * field is checked before it is used, and no reference to another file is ever followed. All calls: one
 * thread per object at a time; no global state.
 */

/* Where the bytes come from. read fills exactly len bytes at offset (offset + len <= size is checked before)
 * or fails. */
struct source {
        uint64_t size; /* bytes */
        int (*read)(void *state, void *buf, size_t len, uint64_t offset, struct err *err);
        /* Optional: how many bytes from offset (below size) on are known to be zeros without a look at them.
         */
        uint64_t (*hole)(void *state, uint64_t offset);
        void *state;
};
int source_read(const struct source *src, void *buf, size_t len, uint64_t offset, struct err *err);
/* A source over a file; fd stays the caller's. Block devices are measured, not stat'ed. */
int source_from_fd(int fd, struct source *ret, struct err *err);

/* A part of a source as a source; sub is its memory and has to live as long. */
struct sub_source {
        struct source outer;
        uint64_t offset;
};
struct source source_part(struct sub_source *sub, const struct source *outer, uint64_t offset, uint64_t len);

enum image_format {
        IMAGE_RAW,
        IMAGE_ISO9660,
        IMAGE_QCOW2,
        IMAGE_VMDK,
        IMAGE_VDI,
        IMAGE_VHD,
        IMAGE_VHDX,
        IMAGE_OVA,
        IMAGE_FORMAT_MAX
};
/* "raw", "iso", "qcow2", "vmdk", "vdi", "vhd", "vhdx", "ova": the Image API's disk_format words, and its
 * container_format "ova". */
const char *image_format_name(enum image_format f);
int image_format_parse(const char *name); /* the enum, or -EINVAL */

/* One reason for refusing an image. code is a stable word ("backing-file", "truncated", "l1-bounds", ...).
 */
struct image_refusal {
        char code[32];
        char field[48]; /* the header field, by its name in the format's specification */
        char value[72], limit[72];
        char message[256];
};

/* One header field, for a person: by its name in the format's specification. */
struct image_field {
        char name[40];
        char value[64];
};

struct image_info {
        enum image_format format;
        uint64_t virtual_size; /* bytes that a guest sees */
        uint64_t file_size;    /* bytes of the source */
        unsigned version;      /* qcow2: 2 or 3; 0 elsewhere */
        unsigned cluster_bits; /* qcow2 */
        bool bootable;         /* ISO: has an El Torito boot record */
        char label[40];        /* ISO: volume identifier, trimmed; empty elsewhere */
        struct image_field fields[40];
        size_t n_fields;
        struct image_refusal refusals[16];
        size_t n_refusals;          /* 0: safe, or after a quick inspection: nothing found */
        bool quick;                 /* only the headers were looked at */
        uint64_t reads, read_bytes; /* what the inspection cost */
};

/*
 * Finds the format from the content and checks all of it that could hurt (whole walk of tables, each table
 * once, memory bounded by 32 MiB). Returns 0 with ret filled also for an image that is refused (n_refusals >
 * 0); a negative return means that the source could not be read. `declared` is what the user claims, or -1;
 * a mismatch is a refusal. Never give it a disk that a guest has written as anything but raw.
 */
int image_inspect(const struct source *src, int declared, struct image_info *ret, struct err *err);
/* Headers only, at most 4 MiB of reads: what it finds is refused, what it does not find may still be there.
 */
int image_inspect_quick(const struct source *src, int declared, struct image_info *ret, struct err *err);

/* An inspected, unrefused image as a sparse raw disk. The source must outlive it. */
struct image;
int image_open(const struct source *src, const struct image_info *info, struct image **ret, struct err *err);
struct image *image_close(struct image *img); /* returns NULL */
uint64_t image_size(const struct image *img);
/* Guest bytes; holes read as zeros. -EINVAL beyond the end. */
int image_read(struct image *img, void *buf, size_t len, uint64_t offset, struct err *err);
/* From offset on: how many bytes (at least 1, at most up to the end) are all data or all hole. */
int image_extent(struct image *img, uint64_t offset, uint64_t *ret_len, bool *ret_data, struct err *err);

/*
 * The same for bytes that come once, in order (an upload): push them in, get guest data out through sink,
 * which is called with data only (never for holes), in any order of offsets, each offset at most once. The
 * format is the declared one, checked against the content. qcow2 needs each table before the data it maps
 * (what qemu-img writes); VMDK, VDI, VHD and VHDX need all their tables in the first 16 MiB of the file; an
 * OVA, and a VMDK with its directory at the end, need random access. An image that a stream cannot take is
 * refused with the code "table-order" and the advice to let `wherry image add` convert it on the client,
 * where the file can be read at random.
 */
struct image_sink {
        /* Once, before the first data. UINT64_MAX: raw or ISO of unknown size; image_stream_finish() tells
         * it. */
        int (*begin)(void *state, uint64_t virtual_size, struct err *err);
        int (*data)(void *state, const void *buf, size_t len, uint64_t offset, struct err *err);
        void *state;
};
struct image_stream;
int image_stream_new(enum image_format format, uint64_t file_size /* UINT64_MAX: unknown */,
                     const struct image_sink *sink, struct image_stream **ret, struct err *err);
int image_stream_push(struct image_stream *st, const void *buf, size_t len, struct err *err);
/* At the end of the bytes: everything that tables name was there, or an error. ret may be NULL. */
int image_stream_finish(struct image_stream *st, struct image_info *ret, struct err *err);
struct image_stream *image_stream_free(struct image_stream *st);

/*
 * The first bytes of an empty qcow2 v3 overlay over a raw backing file: header, refcounts, L1. The whole
 * file is this text (fresh memory, the caller's); its guest size is virtual_size (bytes, multiple of 512, at
 * most 16 TiB). backing NULL: a qcow2 of its own without a backing file. Source: QEMU
 * docs/interop/qcow2.txt.
 */
int qcow2_overlay(uint64_t virtual_size, const char *backing, uint8_t **ret, size_t *ret_len,
                  struct err *err);

/*
 * Such an overlay as a raw disk, after a guest has written to it through QEMU: what it says nothing of comes
 * from `below` (the backing file's bytes; NULL: it has none). Its header is compared with what we have made,
 * not believed: -EBADMSG where size, backing file or features are others. The guest's bytes are not looked
 * at. Both sources must outlive it.
 */
int image_open_overlay(const struct source *src, uint64_t virtual_size, const char *backing,
                       const struct source *below, struct image **ret, struct err *err);

/*
 * A disk as a qcow2 v3 image of its own, plain, in one pass: clusters of zeros are left out. Data ascends;
 * what is never given is zeros. virtual_size as for qcow2_overlay(). Until finish has succeeded there is no
 * header, so that a part is never taken for an image. Memory: the L1 table (256 KiB at 16 TiB) and 128 KiB.
 */
struct byte_sink { /* any order, no place twice */
        int (*write)(void *state, const void *buf, size_t len, uint64_t offset, struct err *err);
        void *state;
};
struct qcow2_writer;
int qcow2_writer_new(uint64_t virtual_size, const struct byte_sink *out, struct qcow2_writer **ret,
                     struct err *err);
int qcow2_writer_data(struct qcow2_writer *w, const void *data, size_t len, uint64_t offset,
                      struct err *err);
int qcow2_writer_finish(struct qcow2_writer *w, struct err *err);
struct qcow2_writer *qcow2_writer_free(struct qcow2_writer *w); /* returns NULL */

/* Names and contents of small files as an ISO 9660 image with Joliet and Rock Ridge names, volume "cidata"
 * for cloud-init's NoCloud. */
struct iso_file {
        const char *name; /* "meta-data", "user-data", "network-config" */
        const void *data;
        size_t len;
};
int iso_write(const char *volume, const struct iso_file *files, size_t n_files, uint8_t **ret,
              size_t *ret_len, struct err *err);

/* The NoCloud seed of one instance. Lists are NULL-terminated; strings are checked (no line breaks). */
struct nocloud {
        const char *instance_id, *hostname;
        const char *const *ssh_keys;
        const char *user_data;               /* the customer's own cloud-config or script, or NULL */
        const char *mac, *address, *gateway; /* address "10.77.0.10"; mac "52:54:00:..." */
        unsigned prefix;                     /* 24 */
        const char *const *nameservers;
};
int nocloud_iso(const struct nocloud *nc, uint8_t **ret, size_t *ret_len, struct err *err);
