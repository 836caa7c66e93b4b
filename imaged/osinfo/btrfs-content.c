/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/osinfo/btrfs.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "common/util.h"
#include "formats/bytes.h"

/* What is in a file: extents, inline or at an address, plain or compressed. */

#define EXTENT_HEAD 21u
#define EXTENT_LEN 53u
#define ZSTD_WINDOW_LOG 17 /* btrfs writes no larger one */

enum { EXTENT_INLINE, EXTENT_REGULAR, EXTENT_PREALLOC };
enum { PACK_NONE, PACK_ZLIB, PACK_LZO, PACK_ZSTD };

struct extent {
        uint8_t pack, kind;
        uint64_t plain_len;                  /* of the whole extent, uncompressed */
        uint64_t logical, disk_len, in, len; /* len bytes of the file: from `in` on in the extent */
};

static bool zlib_unpack(const uint8_t *data, size_t len, uint8_t *out, size_t want)
{
        /* zlib's interface lacks the const */
        z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)len};
        int r;

        if (inflateInit(&z) != Z_OK)
                return false;
        z.next_out = out;
        z.avail_out = (uInt)want;
        r = inflate(&z, Z_SYNC_FLUSH);
        inflateEnd(&z);
        return r == Z_STREAM_END || z.avail_out == 0;
}

static bool zstd_unpack(const uint8_t *data, size_t len, uint8_t *out, size_t want)
{
        ZSTD_inBuffer input = {data, len, 0};
        ZSTD_outBuffer output = {out, want, 0};
        ZSTD_DCtx *ctx = ZSTD_createDCtx();
        size_t r = 1;

        if (!ctx || ZSTD_isError(ZSTD_DCtx_setParameter(ctx, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)))
                output.size = 0;
        while (output.pos < output.size && r != 0) {
                size_t was = input.pos + output.pos;

                r = ZSTD_decompressStream(ctx, &output, &input);
                if (ZSTD_isError(r) || input.pos + output.pos == was)
                        break;
        }
        ZSTD_freeDCtx(ctx);
        return r == 0 || output.pos == want;
}

/* The first `want` bytes of what is compressed. It may be less, up to the end of the file: zeros follow. */
static bool unpack(struct btrfs *fs, uint8_t pack, const uint8_t *data, size_t len, uint8_t *out,
                   size_t want)
{
        if (!btrfs_spend(fs, len + want))
                return false;
        memset(out, 0, want);
        switch (pack) {
        case PACK_ZLIB:
                return zlib_unpack(data, len, out, want);
        case PACK_ZSTD:
                return zstd_unpack(data, len, out, want);
        default:
                return false;
        }
}

static bool inline_read(struct btrfs *fs, const struct extent *e, const struct btrfs_item *item,
                        uint8_t *out, size_t room, size_t *ret)
{
        const uint8_t *data = item->data + EXTENT_HEAD;
        size_t len = item->len - EXTENT_HEAD;

        *ret = (size_t)MIN_OF(e->plain_len, (uint64_t)room);
        if (e->pack != PACK_NONE)
                return unpack(fs, e->pack, data, len, out, *ret);
        *ret = MIN_OF(*ret, len);
        memcpy(out, data, *ret);
        return true;
}

static bool packed_read(struct btrfs *fs, const struct extent *e, uint8_t *out, size_t n)
{
        if (e->plain_len > BTRFS_PACKED_MAX || e->disk_len > BTRFS_PACKED_MAX || e->in > e->plain_len ||
            n > e->plain_len - e->in || !btrfs_read(fs, e->logical, fs->packed, (size_t)e->disk_len) ||
            !unpack(fs, e->pack, fs->packed, (size_t)e->disk_len, fs->plain, (size_t)e->in + n))
                return false;
        memcpy(out, fs->plain + e->in, n);
        return true;
}

static bool plain_read(struct btrfs *fs, const struct extent *e, uint8_t *out, size_t n)
{
        uint64_t at;

        return e->in <= e->disk_len && n <= e->disk_len - e->in &&
               !__builtin_add_overflow(e->logical, e->in, &at) && btrfs_read(fs, at, out, n);
}

/* One extent's beginning to out, which has zeros. ret: how much of the file it is. */
static bool extent_read(struct btrfs *fs, const struct btrfs_item *item, uint8_t *out, size_t room,
                        size_t *ret)
{
        const uint8_t *p = item->data;
        struct extent e;

        if (item->len < EXTENT_HEAD || p[17] != 0 || get_le16(p + 18) != 0) /* encrypted, or otherwise */
                return false;
        e = (struct extent){.plain_len = get_le64(p + 8), .pack = p[16], .kind = p[20]};
        if (e.kind == EXTENT_INLINE)
                return item->key.offset == 0 && inline_read(fs, &e, item, out, room, ret);
        if (item->len < EXTENT_LEN || e.kind > EXTENT_PREALLOC)
                return false;
        e.logical = get_le64(p + 21);
        e.disk_len = get_le64(p + 29);
        e.in = get_le64(p + 37);
        e.len = get_le64(p + 45);
        *ret = (size_t)MIN_OF(e.len, (uint64_t)room);
        if (e.kind == EXTENT_PREALLOC || e.logical == 0) /* never written, or a hole */
                return true;
        return e.pack == PACK_NONE ? plain_read(fs, &e, out, *ret) : packed_read(fs, &e, out, *ret);
}

size_t btrfs_content(struct btrfs *fs, const struct btrfs_tree *tree, uint64_t inode, uint8_t *buf,
                     size_t room)
{
        struct btrfs_key key = {inode, BTRFS_EXTENT, 0};
        struct btrfs_item item;
        size_t n;

        memset(buf, 0, room);
        while (key.offset < room && btrfs_search(fs, tree, &key, &item) && item.key.object == inode &&
               item.key.type == BTRFS_EXTENT && item.key.offset < room) {
                size_t at = (size_t)item.key.offset; /* zeros up to here: a hole needs no extent */

                if (!extent_read(fs, &item, buf + at, room - at, &n) || n == 0)
                        return at;
                key.offset = at + n;
        }
        return room;
}
