/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "imaged/osinfo/helper.h"

/*
 * XFS, versions 4 and 5, read and never written; docs/formats/xfs.md has the offsets. No check sum is looked
 * at: whoever made the image can make them, too. The log is not replayed: an image of a disk that was not
 * unmounted shows the state before. What is damaged or unknown is not there.
 *
 * Each question to the disk costs the caller's limit up to 16 KiB (remote.c), and each look at a map some
 * time: both are taken off `left`, so that no file system keeps us for longer than 48 MiB.
 */
#define WORK_MAX (3072u * 16)
#define WORK_READ(len) (16 + (unsigned)((len) / 1024))
#define WORK_MAP 1u
#define BLOCK_MAX 65536u
#define INODE_MAX 2048u
#define DIR_MAX (UINT64_C(4) << 20) /* so much of a directory is gone through: 100,000 names */
#define LEVELS_MAX 8                /* of a tree of extents; XFS needs 5 */
#define LINK_MAX 1024u
#define LINK_HEAD 56u
#define NO_BLOCK UINT64_MAX

enum { FORMAT_LOCAL = 1, FORMAT_EXTENTS = 2, FORMAT_TREE = 3 };

struct xfs {
        const struct source *src;
        unsigned block_log, inode_log, ag_log, dir_log; /* of bytes, bytes, blocks, bytes */
        uint32_t ag_blocks, ag_count;
        uint64_t blocks, root;
        bool v5, ftype;

        unsigned left;
        uint64_t in_tree; /* the block that tree[] holds */
        uint8_t tree[BLOCK_MAX], dir[BLOCK_MAX];
};

struct inode {
        enum tree_kind kind;
        unsigned format;
        uint64_t size, extents;
        const uint8_t *fork; /* of its data, inside of bytes */
        size_t fork_len;
        uint8_t bytes[INODE_MAX];
};

/* Blocks `start` on of a file. count 0: a hole. */
struct extent {
        uint64_t start, block, count;
        bool unwritten;
};

/* --- superblock --- */

static bool feature_known(const uint8_t *sb, struct xfs *x)
{
        const unsigned version = get_be16(sb + 100);
        const uint32_t features2 = get_be32(sb + 200) | get_be32(sb + 204); /* IRIX' place and Linux' */

        switch (version & 0xf) {
        case 4:
                if (version & 0x8000 && features2 & ~UINT32_C(0x28a))
                        return false;
                x->ftype = version & 0x8000 && features2 & 0x200;
                return version & 0x2000 && !(version & 0x200); /* directories of version 2, nothing shared */
        case 5:
                /* all that exist but the zoned allocator: there files lie on the realtime device */
                x->v5 = true;
                x->ftype = sb[219] & 1;
                return !(get_be32(sb + 216) & ~UINT32_C(0x1ff));
        }
        return false;
}

static bool is_log(uint32_t value, unsigned log, unsigned min, unsigned max)
{
        return log >= min && log <= max && value == UINT32_C(1) << log;
}

static bool super_read(const uint8_t *sb, struct xfs *x)
{
        const unsigned sector_log = sb[121], per_block = sb[123];

        x->block_log = sb[120];
        x->inode_log = sb[122];
        x->ag_log = sb[124];
        x->blocks = get_be64(sb + 8);
        x->root = get_be64(sb + 56);
        x->ag_blocks = get_be32(sb + 84);
        x->ag_count = get_be32(sb + 88);
        if (memcmp(sb, "XFSB", 4) != 0 || !feature_known(sb, x) || sb[126] != 0 || sb[192] > 7)
                return false;
        x->dir_log = x->block_log + sb[192];
        return is_log(get_be32(sb + 4), x->block_log, 9, 16) &&
               is_log(get_be16(sb + 102), sector_log, 9, 15) &&
               is_log(get_be16(sb + 104), x->inode_log, 8, 11) && x->inode_log <= x->block_log &&
               per_block == x->block_log - x->inode_log && x->dir_log <= 16 && x->ag_log >= 1 &&
               x->ag_log <= 31 && x->ag_blocks > UINT64_C(1) << (x->ag_log - 1) &&
               x->ag_blocks <= UINT64_C(1) << x->ag_log && x->ag_count > 0 &&
               x->blocks <= (uint64_t)x->ag_blocks * x->ag_count && x->blocks < UINT64_C(1) << 47;
}

/* --- blocks, inodes, extents --- */

static bool bytes_get(struct xfs *x, void *buf, size_t len, uint64_t offset)
{
        if (x->left < WORK_READ(len))
                return false;
        x->left -= WORK_READ(len);
        return source_read(x->src, buf, len, offset, NULL) == 0;
}

/* Where blocks lie, in bytes. A block's number has its allocation group above ag_log; groups need not be
 * powers of two. */
static bool block_place(const struct xfs *x, uint64_t block, uint64_t count, uint64_t *ret)
{
        const uint64_t group = block >> x->ag_log, in = block & ((UINT64_C(1) << x->ag_log) - 1);
        uint64_t at;

        if (group >= x->ag_count || in >= x->ag_blocks || count > x->ag_blocks - in)
                return false;
        at = group * x->ag_blocks + in;
        if (at >= x->blocks || count > x->blocks - at)
                return false;
        *ret = at << x->block_log;
        return true;
}

static enum tree_kind mode_kind(unsigned mode)
{
        switch (mode & 0170000) {
        case 0100000:
                return TREE_FILE;
        case 0040000:
                return TREE_DIR;
        case 0120000:
                return TREE_LINK;
        }
        return TREE_OTHER;
}

/* An inode's number is its block's, and its place in that block below. */
static bool inode_get(struct xfs *x, uint64_t node, struct inode *ret)
{
        const unsigned in_block = x->block_log - x->inode_log;
        const size_t size = (size_t)1 << x->inode_log, core = x->v5 ? 176 : 100;
        uint8_t *p = ret->bytes;
        uint64_t at;

        if (!block_place(x, node >> in_block, 1, &at))
                return false;
        at += (node & ((UINT64_C(1) << in_block) - 1)) << x->inode_log;
        if (!bytes_get(x, p, size, at) || p[0] != 'I' || p[1] != 'N' || (p[4] == 3) != x->v5 || p[4] < 1 ||
            p[4] > 3 || (x->v5 && get_be64(p + 152) != node))
                return false;
        ret->kind = mode_kind(get_be16(p + 2));
        if (ret->kind == TREE_FILE && p[91] & 1) /* its data is on the realtime device */
                ret->kind = TREE_OTHER;
        ret->format = p[5];
        ret->size = get_be64(p + 56);
        ret->extents = x->v5 && p[127] & 0x10 ? get_be64(p + 24) : get_be32(p + 76);
        ret->fork = p + core;
        ret->fork_len = p[82] ? (size_t)p[82] * 8 : size - core;
        return ret->fork_len <= size - core;
}

static struct extent extent_get(const uint8_t *p)
{
        const uint64_t a = get_be64(p), b = get_be64(p + 8);

        return (struct extent){.unwritten = a >> 63,
                               .start = a >> 9 & ((UINT64_C(1) << 54) - 1),
                               .block = (a & 0x1ff) << 43 | b >> 21,
                               .count = b & 0x1fffff};
}

/* How many of a node's keys, or of a list of extents, begin at the file's block `at` or before: both ascend.
 */
static size_t begun_by(const uint8_t *p, size_t n, size_t size, uint64_t at)
{
        size_t low = 0, high = n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const uint8_t *entry = p + middle * size;

                if ((size == 16 ? extent_get(entry).start : get_be64(entry)) <= at)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* The one that has the block of the file; a hole, if none has. */
static struct extent extents_find(const uint8_t *p, size_t n, uint64_t at)
{
        const size_t i = begun_by(p, n, 16, at);
        struct extent e = {0};

        if (i > 0)
                e = extent_get(p + (i - 1) * 16);
        return at - e.start < e.count ? e : (struct extent){0};
}

/* A block of the tree into x->tree, where the last one often is the next one. */
static bool tree_block(struct xfs *x, uint64_t block, unsigned level)
{
        uint64_t at;

        if (block != x->in_tree || block == NO_BLOCK) {
                x->in_tree = NO_BLOCK;
                if (!block_place(x, block, 1, &at) || !bytes_get(x, x->tree, (size_t)1 << x->block_log, at))
                        return false;
                x->in_tree = block;
        }
        return memcmp(x->tree, x->v5 ? "BMA3" : "BMAP", 4) == 0 && get_be16(x->tree + 4) == level;
}

/* The root is in the inode; each level below is one less, so that the walk ends. */
static bool tree_map(struct xfs *x, const struct inode *in, uint64_t at, struct extent *ret)
{
        const uint8_t *keys = in->fork + 4;
        size_t max;
        unsigned level = get_be16(in->fork), n = get_be16(in->fork + 2);

        if (in->fork_len < 20 || level < 1 || level > LEVELS_MAX)
                return false;
        max = (in->fork_len - 4) / 16;
        for (; level > 0; level--) {
                const size_t head = x->v5 ? 72 : 24;
                size_t i;

                if (n > max)
                        return false;
                i = begun_by(keys, n, 8, at);
                if (i == 0) {
                        *ret = (struct extent){0};
                        return true;
                }
                if (!tree_block(x, get_be64(keys + (max + i - 1) * 8), level - 1)) /* beside the last key */
                        return false;
                keys = x->tree + head;
                max = (((size_t)1 << x->block_log) - head) / 16;
                n = get_be16(x->tree + 6);
        }
        if (n > max)
                return false;
        *ret = extents_find(keys, n, at);
        return true;
}

static bool map(struct xfs *x, const struct inode *in, uint64_t at, struct extent *ret)
{
        if (x->left < WORK_MAP)
                return false;
        x->left -= WORK_MAP;
        if (in->format == FORMAT_TREE)
                return tree_map(x, in, at, ret);
        if (in->format != FORMAT_EXTENTS || in->extents > in->fork_len / 16)
                return false;
        *ret = extents_find(in->fork, in->extents, at);
        return true;
}

/* A file's bytes; what was never written is zeros. */
static bool data_get(struct xfs *x, const struct inode *in, uint8_t *buf, size_t len, uint64_t at)
{
        const uint64_t size = UINT64_C(1) << x->block_log;

        while (len > 0) {
                const uint64_t block = at >> x->block_log, skip = at & (size - 1);
                struct extent e;
                uint64_t where, room;
                size_t n;

                if (!map(x, in, block, &e))
                        return false;
                room = e.count ? ((e.count - (block - e.start)) << x->block_log) - skip : size - skip;
                n = (size_t)MIN_OF((uint64_t)len, room);
                if (e.count == 0 || e.unwritten)
                        memset(buf, 0, n);
                else if (!block_place(x, e.block + (block - e.start), (skip + n + size - 1) >> x->block_log,
                                      &where) ||
                         !bytes_get(x, buf, n, where + skip))
                        return false;
                buf += n;
                at += n;
                len -= n;
        }
        return true;
}

/* --- directories --- */

/* A small one is in its inode. All its numbers have 8 bytes where one of them needs them. */
static bool short_find(const struct xfs *x, const struct inode *in, const char *name, size_t len,
                       uint64_t *ret)
{
        const uint8_t *p = in->fork;
        const size_t room = (size_t)MIN_OF(in->size, (uint64_t)in->fork_len);
        size_t number, at;

        if (room < 6)
                return false;
        number = p[1] ? 8 : 4;
        at = 2 + number;
        for (unsigned i = 0; i < p[0] && at < room; i++) {
                size_t n = p[at], whole = 3 + n + x->ftype + number;

                if (whole > room - at)
                        return false;
                at += whole;
                if (n == len && memcmp(p + at - whole + 3, name, len) == 0) {
                        *ret = number == 8 ? get_be64(p + at - 8) : get_be32(p + at - 4);
                        return true;
                }
        }
        return false;
}

/* One block of the others: entries and free places, each of a multiple of 8 bytes; in a directory that has
 * but one block the index follows, and how many entries that has. */
static bool block_find(const struct xfs *x, const char *name, size_t len, uint64_t *ret)
{
        const uint8_t *p = x->dir;
        size_t at = x->v5 ? 64 : 16, end = (size_t)1 << x->dir_log;

        if (memcmp(p, x->v5 ? "XDB3" : "XD2B", 4) == 0) {
                uint32_t index = get_be32(p + end - 8);

                if (index > (end - 8 - at) / 8)
                        return false;
                end -= 8 + (size_t)index * 8;
        } else if (memcmp(p, x->v5 ? "XDD3" : "XD2D", 4) != 0) {
                return false;
        }
        while (end - at >= 16) {
                size_t n = p[at + 8], whole = (8 + 1 + n + x->ftype + 2 + 7) / 8 * 8;
                bool free_place = get_be16(p + at) == 0xffff;

                if (free_place)
                        whole = get_be16(p + at + 2);
                if (whole < 8 || whole % 8 || whole > end - at)
                        return false;
                if (!free_place && n == len && memcmp(p + at + 9, name, len) == 0) {
                        *ret = get_be64(p + at);
                        return true;
                }
                at += whole;
        }
        return false;
}

/* Block by block, without the index: that would save reads in directories of ten thousands, and be as much
 * code again. Blocks that were given back are holes. */
static bool dir_find(void *state, uint64_t dir, const char *name, size_t len, uint64_t *ret)
{
        struct xfs *x = state;
        const size_t size = (size_t)1 << x->dir_log;
        struct inode in;
        uint64_t end;

        if (!inode_get(x, dir, &in) || in.kind != TREE_DIR)
                return false;
        if (in.format == FORMAT_LOCAL)
                return short_find(x, &in, name, len, ret) && *ret != 0;
        end = MIN_OF(in.size, DIR_MAX);
        for (uint64_t at = 0; at < end; at += size) {
                if (!data_get(x, &in, x->dir, size, at))
                        return false;
                if (block_find(x, name, len, ret))
                        return *ret != 0;
        }
        return false;
}

/* --- files and links --- */

/* A link that does not fit into its inode. In version 5 each extent begins with a header of its own. */
static bool link_get(struct xfs *x, const struct inode *in, uint8_t *buf)
{
        const size_t size = (size_t)in->size;
        uint64_t block = 0;

        if (!x->v5)
                return data_get(x, in, buf, size, 0);
        for (size_t at = 0; at < size;) {
                uint8_t part[LINK_HEAD + LINK_MAX];
                uint64_t room;
                struct extent e;
                size_t n;

                if (!map(x, in, block, &e) || e.count == 0)
                        return false;
                room = (e.count - (block - e.start)) << x->block_log;
                n = (size_t)MIN_OF(room, (uint64_t)(LINK_HEAD + size - at));
                if (!data_get(x, in, part, n, block << x->block_log) || memcmp(part, "XSLM", 4) != 0 ||
                    get_be32(part + 4) != at)
                        return false;
                memcpy(buf + at, part + LINK_HEAD, n - LINK_HEAD);
                at += n - LINK_HEAD;
                block = e.start + e.count;
        }
        return true;
}

static size_t node_read(void *state, uint64_t node, void *buf, size_t room)
{
        struct xfs *x = state;
        struct inode in;
        size_t n;

        if (!inode_get(x, node, &in))
                return 0;
        n = (size_t)MIN_OF(in.size, (uint64_t)room);
        if (in.kind == TREE_FILE)
                return data_get(x, &in, buf, n, 0) ? n : 0;
        if (in.kind != TREE_LINK || in.size > MIN_OF(room, (size_t)LINK_MAX))
                return 0;
        if (in.format == FORMAT_LOCAL && n <= in.fork_len) {
                memcpy(buf, in.fork, n);
                return n;
        }
        return link_get(x, &in, buf) ? n : 0;
}

static enum tree_kind node_kind(void *state, uint64_t node)
{
        struct inode in;

        return inode_get(state, node, &in) ? in.kind : TREE_OTHER;
}

int xfs_look(const struct source *fs, struct os_release *release, const char **architecture, struct err *err)
{
        uint8_t sb[512];
        struct tree tree = {.find = dir_find, .kind = node_kind, .read = node_read};
        _cleanup_(freep) struct xfs *x = NULL;

        if (fs->size < sizeof(sb) || source_read(fs, sb, sizeof(sb), 0, NULL) < 0 ||
            memcmp(sb, "XFSB", 4) != 0)
                return 0;
        x = calloc(1, sizeof(*x));
        if (!x)
                return err_set(err, -ENOMEM, "out of memory");
        x->src = fs;
        x->left = WORK_MAX;
        x->in_tree = NO_BLOCK;
        if (super_read(sb, x)) {
                tree.fs = x;
                tree.root = x->root;
                root_look(tree_begin, &tree, release, architecture);
        }
        return 0;
}
