/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/util.h"
#include "formats/internal.h"
#include "formats/map.h"

int image_open(const struct source *src, const struct image_info *info, struct image **ret, struct err *err)
{
        struct image *img;
        int r;

        if (info->n_refusals > 0)
                return refusal_error(info, err);
        img = calloc(1, sizeof(*img));
        if (!img)
                return err_set(err, -ENOMEM, "out of memory");
        img->src = *src;
        img->size = info->virtual_size;
        if (info->format == IMAGE_QCOW2)
                r = qcow2_open(img, err);
        else if (info->format == IMAGE_OVA)
                r = ova_open(img, err);
        else if (map_ops_of(info->format))
                r = map_image_open(img, info, err);
        else
                r = raw_open(img, err);
        if (r < 0) {
                free(img);
                return r;
        }
        *ret = img;
        return 0;
}

int image_open_overlay(const struct source *src, uint64_t virtual_size, const char *backing,
                       const struct source *below, struct image **ret, struct err *err)
{
        struct image *img = calloc(1, sizeof(*img));
        int r;

        if (!img)
                return err_set(err, -ENOMEM, "out of memory");
        img->src = *src;
        img->size = virtual_size;
        r = qcow2_open_overlay(img, backing, below, err);
        if (r < 0) {
                free(img);
                return r;
        }
        *ret = img;
        return 0;
}

struct image *image_close(struct image *img)
{
        if (!img)
                return NULL;
        img->ops->close(img->state);
        free(img);
        return NULL;
}

uint64_t image_size(const struct image *img)
{
        return img->size;
}

int image_read(struct image *img, void *buf, size_t len, uint64_t offset, struct err *err)
{
        if (offset > img->size || len > img->size - offset)
                return err_set(err, -EINVAL,
                               "%zu bytes at offset %" PRIu64 " lie beyond the disk's end at %" PRIu64, len,
                               offset, img->size);
        if (len == 0)
                return 0;
        return img->ops->read(img, buf, len, offset, err);
}

int image_extent(struct image *img, uint64_t offset, uint64_t *ret_len, bool *ret_data, struct err *err)
{
        if (offset >= img->size)
                return err_set(err, -EINVAL, "offset %" PRIu64 " lies beyond the disk's end at %" PRIu64,
                               offset, img->size);
        return img->ops->extent(img, offset, ret_len, ret_data, err);
}
