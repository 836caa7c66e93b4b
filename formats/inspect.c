/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/formats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/map.h"
#include "formats/ova.h"
#include "formats/qcow2.h"

/* Guests see whole sectors: what a file lacks at its end reads as zeros. */
static uint64_t whole_sectors(uint64_t size, uint64_t sector)
{
        return size % sector ? size + (sector - size % sector) : size;
}

/* The part of a check that a head suffices for: raw, ISO, qcow2. */
static void plain_check(const uint8_t *head, size_t len, struct image_info *info, struct qcow2 *ret_qcow2)
{
        if (info->format == IMAGE_QCOW2) {
                qcow2_header_check(head, len, info->file_size, ret_qcow2, info);
                return;
        }
        if (info->file_size > FORMAT_SIZE_MAX) {
                refuse_number(info, "size", "file size", info->file_size, FORMAT_SIZE_MAX,
                              "the image is too large");
                return;
        }
        info->virtual_size = whole_sectors(info->file_size, info->format == IMAGE_ISO9660 ? 2048 : 512);
        if (info->format == IMAGE_ISO9660)
                iso_check(head, len, info->file_size, info);
}

static bool refused_for_format(const struct image_info *info)
{
        for (size_t i = 0; i < info->n_refusals; i++)
                if (streq(info->refusals[i].code, "empty") ||
                    streq(info->refusals[i].code, "unsupported-format"))
                        return true;
        return false;
}

void head_check(const uint8_t *head, size_t len, const uint8_t *tail, uint64_t file_size, int declared,
                struct image_info *ret, struct qcow2 *ret_qcow2)
{
        *ret_qcow2 = (struct qcow2){0};
        detect(head, len, tail, file_size, declared, ret);
        if (!refused_for_format(ret) && ret->format <= IMAGE_QCOW2)
                plain_check(head, len, ret, ret_qcow2);
}

/* What a disk's partition table says, read as the guest would. */
static int partitions(const struct source *src, struct image_info *info, struct err *err)
{
        uint8_t *head;
        struct image *img;
        size_t len = (size_t)MIN_OF(info->virtual_size, UINT64_C(8192));
        int r = image_open(src, info, &img, err);

        if (r < 0)
                return r;
        head = calloc(1, 8192);
        if (!head)
                r = err_set(err, -ENOMEM, "out of memory");
        else
                r = image_read(img, head, len, 0, err);
        if (r == 0)
                partitions_note(head, len, info->virtual_size, info);
        free(head);
        image_close(img);
        return r;
}

static int map_inspect(const struct source *src, bool quick, struct image_info *info, struct err *err)
{
        struct map m;
        int r = map_open(&m, src, false, info, err);

        if (r == 0 && info->n_refusals == 0 && !quick && !m.plain)
                r = map_walk(&m, info, err);
        map_close(&m);
        return r;
}

static int ova_inspect(const struct source *src, bool quick, struct image_info *info, struct err *err)
{
        struct image_info inner = {.format = IMAGE_VMDK};
        struct sub_source sub;
        struct source disk;
        struct ova ova;
        int r = ova_check(src, &ova, info, err);

        if (r < 0 || info->n_refusals > 0)
                return r;
        disk = source_part(&sub, src, ova.offset, ova.len);
        r = quick ? image_inspect_quick(&disk, IMAGE_VMDK, &inner, err)
                  : image_inspect(&disk, IMAGE_VMDK, &inner, err);
        if (r < 0)
                return r;
        info->virtual_size = inner.virtual_size;
        for (size_t i = 0; i < inner.n_fields; i++)
                note(info, inner.fields[i].name, "%s", inner.fields[i].value);
        for (size_t i = 0; i < inner.n_refusals; i++) {
                const struct image_refusal *f = &inner.refusals[i];

                refuse(info, f->code, f->field, f->value, f->limit, f->message);
        }
        return quick || info->n_refusals > 0 ? 0 : ova_manifest_check(src, info, err);
}

static int inspect_body(const struct source *src, bool quick, const uint8_t *head, size_t len,
                        struct image_info *info, struct err *err)
{
        struct qcow2 q = {0};
        int r = 0;

        if (info->format == IMAGE_OVA)
                return ova_inspect(src, quick, info, err);
        if (map_ops_of(info->format))
                r = map_inspect(src, quick, info, err);
        else
                plain_check(head, len, info, &q);
        if (r == 0 && info->n_refusals == 0 && info->format == IMAGE_QCOW2 && !quick)
                r = qcow2_walk(src, &q, info, err);
        if (r == 0 && info->n_refusals == 0 && info->format == IMAGE_ISO9660)
                r = iso_details(src, head, len, info, err);
        else if (r == 0 && info->n_refusals == 0)
                r = partitions(src, info, err);
        if (r == -EBADMSG) { /* the disk's first block cannot be read */
                refuse(info, "damaged", "first block", "unreadable", "readable", err_text(err));
                r = 0;
        }
        return r;
}

/* A source that counts what is read from it. */
struct counted {
        const struct source *src;
        uint64_t reads, bytes;
};

static int counted_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct counted *c = state;

        c->reads++;
        c->bytes += len;
        return source_read(c->src, buf, len, offset, err);
}

static int inspect(const struct source *original, int declared, bool quick, struct image_info *ret,
                   struct err *err)
{
        struct counted counted = {.src = original};
        struct source src = {.size = original->size, .read = counted_read, .state = &counted};
        size_t len = (size_t)MIN_OF(src.size, (uint64_t)FORMAT_HEAD_LEN);
        _cleanup_(freep) uint8_t *head = malloc(FORMAT_HEAD_LEN);
        _cleanup_(freep) struct image_info *info = malloc(sizeof(*info));
        uint8_t tail[TAIL_LEN] = {0};
        struct err why = {0};
        int r;

        if (!head || !info)
                return err_set(err, -ENOMEM, "out of memory");
        r = source_read(&src, head, len, 0, &why);
        if (r == 0 && src.size >= TAIL_LEN)
                r = source_read(&src, tail, TAIL_LEN, src.size - TAIL_LEN, &why);
        if (r == 0) {
                detect(head, len, tail, src.size, declared, info);
                if (!refused_for_format(info))
                        r = inspect_body(&src, quick, head, len, info, &why);
        }
        if (r < 0)
                return err_set(err, r, "%s", err_text(&why));
        info->quick = quick;
        info->reads = counted.reads;
        info->read_bytes = counted.bytes;
        *ret = *info;
        return 0;
}

int image_inspect(const struct source *src, int declared, struct image_info *ret, struct err *err)
{
        return inspect(src, declared, false, ret, err);
}

int image_inspect_quick(const struct source *src, int declared, struct image_info *ret, struct err *err)
{
        return inspect(src, declared, true, ret, err);
}
