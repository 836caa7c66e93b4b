/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/sparse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/util.h"

#define ULL(v) ((unsigned long long)(v))

static uint64_t be(const uint8_t *p, size_t n)
{
        uint64_t v = 0;

        while (n-- > 0)
                v = v << 8 | *p++;
        return v;
}

bool sparse_type(const char *content_type)
{
        size_t n = strlen(SPARSE_TYPE);

        return content_type && strncasecmp(content_type, SPARSE_TYPE, n) == 0 &&
               strchr("; \t", content_type[n]); /* the end of the text is found, too */
}

int sparse_type_size(const char *content_type, uint64_t *ret_size, struct err *err)
{
        const char *p = strchr(content_type, ';');
        unsigned long long v;
        char *end;

        *ret_size = UINT64_MAX;
        if (!p)
                return 0;
        p += 1 + strspn(p + 1, " \t");
        if (strncasecmp(p, "size=", 5) != 0 || p[5] < '0' || p[5] > '9')
                return err_set(err, -EINVAL, "Content-Type \"%s\": the parameter is not size=BYTES",
                               content_type);
        errno = 0;
        v = strtoull(p + 5, &end, 10);
        if (errno || *end || v == UINT64_MAX)
                return err_set(err, -EINVAL, "Content-Type \"%s\": the parameter is not size=BYTES",
                               content_type);
        *ret_size = v;
        return 0;
}

static int sparse_begin(struct sparse *sp, uint64_t size, struct err *err)
{
        if (size == 0)
                return err_set(err, -EBADMSG, "sparse stream: the disk has 0 bytes");
        sp->begun = true;
        sp->size = size;
        return sp->sink.begin(sp->sink.state, size, err);
}

int sparse_init(struct sparse *sp, uint64_t size, const struct sparse_sink *sink, struct err *err)
{
        *sp = (struct sparse){.sink = *sink};
        return size == UINT64_MAX ? 0 : sparse_begin(sp, size, err);
}

static int sparse_header(struct sparse *sp, struct err *err)
{
        uint64_t offset = be(sp->header, 8), len = be(sp->header + 8, 4);

        if (sp->ended)
                return err_set(err, -EBADMSG, "sparse stream: bytes after its last frame");
        if (len == 0 && !sp->begun)
                return sparse_begin(sp, offset, err);
        if (len == 0) {
                if (offset != sp->size)
                        return err_set(err, -EBADMSG,
                                       "sparse stream: its last frame says %llu bytes, its begin said %llu",
                                       ULL(offset), ULL(sp->size));
                sp->ended = true;
                return 0;
        }
        if (!sp->begun)
                return err_set(err, -EBADMSG,
                               "sparse stream: the virtual size is unknown before the first data; send "
                               "Content-Type: " SPARSE_TYPE "; size=BYTES");
        if (len > SPARSE_FRAME_MAX)
                return err_set(err, -EBADMSG, "sparse stream: a frame of %llu bytes, the limit is %u",
                               ULL(len), SPARSE_FRAME_MAX);
        if (offset < sp->at)
                return err_set(err, -EBADMSG, "sparse stream: a frame at %llu behind data that ends at %llu",
                               ULL(offset), ULL(sp->at));
        if (offset > sp->size || len > sp->size - offset)
                return err_set(err, -EBADMSG,
                               "sparse stream: %llu bytes at %llu lie beyond the disk's end at %llu",
                               ULL(len), ULL(offset), ULL(sp->size));
        sp->at = offset;
        sp->left = len;
        return 0;
}

int sparse_push(struct sparse *sp, const void *buf, size_t len, struct err *err)
{
        const uint8_t *p = buf;
        int r = 0;

        while (len > 0 && r == 0) {
                size_t n;

                if (sp->left > 0) {
                        n = MIN_OF(len, sp->left);
                        r = sp->sink.data(sp->sink.state, p, n, sp->at, err);
                        sp->at += n;
                        sp->left -= n;
                } else {
                        n = MIN_OF(len, SPARSE_HEADER - sp->n_header);
                        memcpy(sp->header + sp->n_header, p, n);
                        sp->n_header += n;
                        if (sp->n_header == SPARSE_HEADER) {
                                sp->n_header = 0;
                                r = sparse_header(sp, err);
                        }
                }
                p += n;
                len -= n;
        }
        return r;
}

int sparse_finish(struct sparse *sp, struct err *err)
{
        if (!sp->ended || sp->n_header > 0)
                return err_set(err, -EBADMSG, "sparse stream: truncated; its last frame is missing");
        return 0;
}
