/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/qcow2.h"

#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "common/util.h"

#define DEFLATE_WINDOW (-15) /* negative: no zlib header; QEMU writes with 12, which 15 can read */
#define ZSTD_WINDOW_LOG_MAX                                                                                 \
        23 /* a cluster has at most 2^21 bytes; bounds the memory that a frame can ask for */

/*
 * libdeflate takes less than half of zlib's time, but only whole streams. QEMU reads a cluster whose stream
 * has no end, too, and so does zlib, which is asked where libdeflate finds fault: what is damaged is what
 * zlib says is.
 */
struct inflater {
        bool zstd;
        struct libdeflate_decompressor *deflate;
        z_stream zlib;
        ZSTD_DCtx *dctx;
};

struct inflater *inflater_free(struct inflater *in)
{
        if (!in)
                return NULL;
        if (in->zstd)
                ZSTD_freeDCtx(in->dctx);
        else
                inflateEnd(&in->zlib);
        libdeflate_free_decompressor(in->deflate);
        free(in);
        return NULL;
}

int inflater_new(bool zstd, struct inflater **ret)
{
        struct inflater *in = calloc(1, sizeof(*in));

        if (!in)
                return -ENOMEM;
        in->zstd = zstd;
        if (zstd) {
                in->dctx = ZSTD_createDCtx();
                if (!in->dctx || ZSTD_isError(ZSTD_DCtx_setParameter(in->dctx, ZSTD_d_windowLogMax,
                                                                     ZSTD_WINDOW_LOG_MAX))) {
                        inflater_free(in);
                        return -ENOMEM;
                }
        } else {
                in->deflate = libdeflate_alloc_decompressor();
                if (!in->deflate || inflateInit2(&in->zlib, DEFLATE_WINDOW) != Z_OK) {
                        libdeflate_free_decompressor(in->deflate);
                        free(in);
                        return -ENOMEM;
                }
        }
        *ret = in;
        return 0;
}

static int run_zlib(struct inflater *in, const uint8_t *data, size_t len, uint8_t *out, size_t out_len,
                    size_t *ret_used, struct err *err)
{
        z_stream *z = &in->zlib;
        size_t got = 0;
        int r;

        if (libdeflate_deflate_decompress_ex(in->deflate, data, len, out, out_len, ret_used, &got) ==
                LIBDEFLATE_SUCCESS &&
            got == out_len)
                return 0;
        inflateReset(z);
        z->next_in = (Bytef *)(uintptr_t)data; /* zlib's interface lacks the const */
        z->avail_in = (uInt)len;
        z->next_out = out;
        z->avail_out = (uInt)out_len;
        r = inflate(z, Z_FINISH);
        /* without an end marker a full cluster is still a cluster: QEMU takes it too */
        if (z->avail_out != 0 || (r != Z_STREAM_END && r != Z_BUF_ERROR && r != Z_OK))
                return err_set(err, -EBADMSG, "a compressed cluster is damaged: %s",
                               z->msg ? z->msg : "it gives less than a cluster");
        *ret_used = len - z->avail_in;
        return 0;
}

static int run_zstd(struct inflater *in, const uint8_t *data, size_t len, uint8_t *out, size_t out_len,
                    size_t *ret_used, struct err *err)
{
        ZSTD_inBuffer input = {data, len, 0};
        ZSTD_outBuffer output = {out, out_len, 0};

        ZSTD_DCtx_reset(in->dctx, ZSTD_reset_session_only);
        while (output.pos < output.size) {
                size_t in_was = input.pos, out_was = output.pos;
                size_t r = ZSTD_decompressStream(in->dctx, &output, &input);

                if (ZSTD_isError(r))
                        return err_set(err, -EBADMSG, "a compressed cluster is damaged: %s",
                                       ZSTD_getErrorName(r));
                if (input.pos == in_was && output.pos == out_was)
                        return err_set(err, -EBADMSG,
                                       "a compressed cluster is damaged: it gives less than a cluster");
        }
        *ret_used = input.pos;
        return 0;
}

int inflater_run(struct inflater *in, const uint8_t *data, size_t len, uint8_t *out, size_t out_len,
                 size_t *ret_used, struct err *err)
{
        if (in->zstd)
                return run_zstd(in, data, len, out, out_len, ret_used, err);
        return run_zlib(in, data, len, out, out_len, ret_used, err);
}
