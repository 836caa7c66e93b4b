/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/osinfo/btrfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"

/*
 * The superblock, chunks and B-trees. Checksums are not compared: whoever made the image hostile made them
 * right, and a node says which address it was written for, which is enough to tell a copy that is lost.
 */

#define SUPER_AT 65536u
#define SUPER_LEN 4096u
#define SYSTEM_AT 811u
#define SYSTEM_LEN 2048u
#define KEY_LEN 17u
#define CHUNK_HEAD 48u
#define STRIPE_LEN 32u
#define CHUNK_OBJECT 256u
#define HEAD_LEN 101u
#define ITEM_LEN 25u    /* in a leaf: key, offset, length */
#define POINTER_LEN 33u /* above: key, address, generation */
#define LEVELS 8u

#define BUDGET (UINT64_C(8) << 20) /* each read of less may cost the helper 16 KiB of its 64 MiB */
#define VISIT 1024u                /* what a node in the cache costs */

/* Mixed back references, default subvolume, mixed groups, LZO, zstd, big metadata, extended references,
 * RAID 5 and 6, skinny metadata, no holes, metadata UUID, RAID1C3 and 4, simple quotas: none changes what is
 * read here. Left out: zoned, extent tree v2, RAID stripe tree. */
#define FEATURES (UINT64_C(0xfff) | UINT64_C(1) << 16)

#define PROFILES UINT64_C(0x7f8)     /* a chunk's type: RAID0, 1, DUP, RAID10, 5, 6, 1C3, 1C4 */
#define WHOLE_COPIES UINT64_C(0x630) /* RAID1, DUP, RAID1C3, 1C4: each stripe has all of it */

bool btrfs_spend(struct btrfs *fs, uint64_t amount)
{
        if (amount > fs->budget) {
                fs->budget = 0;
                return false;
        }
        fs->budget -= amount;
        return true;
}

static struct btrfs_key key_parse(const uint8_t *p)
{
        return (struct btrfs_key){get_le64(p), p[8], get_le64(p + 9)};
}

static int key_compare(const struct btrfs_key *a, const struct btrfs_key *b)
{
        if (a->object != b->object)
                return a->object < b->object ? -1 : 1;
        if (a->type != b->type)
                return a->type < b->type ? -1 : 1;
        return a->offset == b->offset ? 0 : a->offset < b->offset ? -1 : 1;
}

/* --- logical addresses --- */

/* ret_len: of the item, where it is longer than what is known of it. */
static bool chunk_parse(const struct btrfs *fs, uint64_t logical, const uint8_t *p, size_t room,
                        struct btrfs_chunk *ret, size_t *ret_len)
{
        size_t stripes = room >= CHUNK_HEAD ? get_le16(p + 44) : 0;

        if (stripes == 0 || stripes > (room - CHUNK_HEAD) / STRIPE_LEN)
                return false;
        *ret = (struct btrfs_chunk){.logical = logical, .len = get_le64(p)};
        *ret_len = CHUNK_HEAD + stripes * STRIPE_LEN;
        if (stripes > 1 && get_le64(p + 24) & PROFILES & ~WHOLE_COPIES)
                return true; /* no copy */
        for (size_t i = 0; i < stripes && ret->n < BTRFS_COPIES_MAX; i++) {
                const uint8_t *stripe = p + CHUNK_HEAD + i * STRIPE_LEN;

                if (get_le64(stripe) == fs->device)
                        ret->copies[ret->n++] = get_le64(stripe + 8);
        }
        return true;
}

static bool chunk_has(const struct btrfs_chunk *c, uint64_t logical)
{
        return logical >= c->logical && logical - c->logical < c->len;
}

static bool system_parse(struct btrfs *fs, const uint8_t *p, size_t len)
{
        size_t at = 0, n;

        while (len - at >= KEY_LEN && fs->n_system < ARRAY_SIZE(fs->system)) {
                struct btrfs_key key = key_parse(p + at);

                at += KEY_LEN;
                if (key.type != BTRFS_CHUNK ||
                    !chunk_parse(fs, key.offset, p + at, len - at, &fs->system[fs->n_system], &n))
                        return false;
                fs->n_system++;
                at += n;
        }
        return true;
}

static bool search_below(struct btrfs *fs, const struct btrfs_tree *tree, const struct btrfs_key *key,
                         struct btrfs_item *ret);

/* Calls itself once at most, through the search in the chunk tree, whose own nodes the superblock maps. */
static bool chunk_find(struct btrfs *fs, const struct btrfs_tree *tree, uint64_t logical,
                       struct btrfs_chunk *ret)
{
        struct btrfs_key key = {CHUNK_OBJECT, BTRFS_CHUNK, logical};
        struct btrfs_item item;
        size_t len;

        for (size_t i = 0; i < fs->n_system; i++)
                if (chunk_has(&fs->system[i], logical)) {
                        *ret = fs->system[i];
                        return true;
                }
        if (tree && tree->chunks)
                return false;
        if (!chunk_has(&fs->last, logical)) {
                if (!search_below(fs, &fs->chunks, &key, &item) || item.key.object != CHUNK_OBJECT ||
                    item.key.type != BTRFS_CHUNK ||
                    !chunk_parse(fs, item.key.offset, item.data, item.len, &fs->last, &len))
                        return false;
        }
        *ret = fs->last;
        return chunk_has(ret, logical);
}

static bool copy_read(struct btrfs *fs, const struct btrfs_chunk *c, unsigned copy, uint64_t logical,
                      void *buf, size_t len)
{
        uint64_t in = logical - c->logical, at;

        if (len > c->len - in || __builtin_add_overflow(c->copies[copy], in, &at) || !btrfs_spend(fs, len))
                return false;
        return source_read(fs->src, buf, len, at, NULL) >= 0;
}

bool btrfs_read(struct btrfs *fs, uint64_t logical, void *buf, size_t len)
{
        struct btrfs_chunk c;

        if (!chunk_find(fs, NULL, logical, &c))
                return false;
        for (unsigned i = 0; i < c.n; i++)
                if (copy_read(fs, &c, i, logical, buf, len))
                        return true;
        return false;
}

/* --- nodes --- */

static size_t node_items(const uint8_t *node)
{
        return get_le32(node + 96);
}

static size_t entry_len(unsigned level)
{
        return level > 0 ? POINTER_LEN : ITEM_LEN;
}

static bool node_fits(const struct btrfs *fs, const uint8_t *node, uint64_t logical, unsigned level)
{
        return get_le64(node + 48) == logical && node[100] == level &&
               node_items(node) <= (fs->node_size - HEAD_LEN) / entry_len(level);
}

/* The node at an address, from the cache or into it. */
static const uint8_t *node_get(struct btrfs *fs, const struct btrfs_tree *tree, uint64_t logical,
                               unsigned level)
{
        struct btrfs_node *n = &fs->cache[0];
        struct btrfs_chunk c;

        if (logical == 0 || !btrfs_spend(fs, VISIT))
                return NULL;
        for (size_t i = 0; i < BTRFS_CACHE; i++)
                if (fs->cache[i].logical == logical) {
                        fs->cache[i].used = ++fs->clock;
                        return node_fits(fs, fs->cache[i].data, logical, level) ? fs->cache[i].data : NULL;
                }
        if (!chunk_find(fs, tree, logical, &c))
                return NULL;
        for (size_t i = 1; i < BTRFS_CACHE; i++)
                if (fs->cache[i].used < n->used)
                        n = &fs->cache[i];
        n->logical = 0;
        for (unsigned i = 0; i < c.n; i++)
                if (copy_read(fs, &c, i, logical, n->data, fs->node_size) &&
                    node_fits(fs, n->data, logical, level)) {
                        n->logical = logical;
                        n->used = ++fs->clock;
                        return n->data;
                }
        return NULL;
}

static struct btrfs_key entry_key(const uint8_t *node, unsigned level, size_t i)
{
        return key_parse(node + HEAD_LEN + i * entry_len(level));
}

/* How many entries have this key or one before it. Keys ascend; where they do not, it is any number up to
 * all. */
static size_t entries_upto(const uint8_t *node, unsigned level, const struct btrfs_key *key)
{
        size_t low = 0, high = node_items(node);

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                struct btrfs_key here = entry_key(node, level, middle);

                if (key_compare(&here, key) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* The leaf where a key belongs. ret_next: the first key of the leaf behind it, where ret_more says that
 * there is one. */
static const uint8_t *leaf_find(struct btrfs *fs, const struct btrfs_tree *tree, const struct btrfs_key *key,
                                struct btrfs_key *ret_next, bool *ret_more)
{
        const uint8_t *node = node_get(fs, tree, tree->top, tree->level);

        *ret_more = false;
        for (unsigned level = tree->level; node && level > 0; level--) {
                size_t i = entries_upto(node, level, key);

                if (node_items(node) == 0)
                        return NULL;
                if (i < node_items(node)) {
                        *ret_next = entry_key(node, level, i);
                        *ret_more = true;
                }
                if (i > 0)
                        i--;
                node = node_get(fs, tree, get_le64(node + HEAD_LEN + i * POINTER_LEN + KEY_LEN), level - 1);
        }
        return node;
}

static bool item_parse(const struct btrfs *fs, const uint8_t *leaf, size_t i, struct btrfs_item *ret)
{
        const uint8_t *p = leaf + HEAD_LEN + i * ITEM_LEN;
        size_t room = fs->node_size - HEAD_LEN, offset = get_le32(p + 17), len = get_le32(p + 21);

        if (offset > room || len > room - offset)
                return false;
        *ret = (struct btrfs_item){key_parse(p), leaf + HEAD_LEN + offset, len};
        return true;
}

/* The last item at key or before it. */
static bool search_below(struct btrfs *fs, const struct btrfs_tree *tree, const struct btrfs_key *key,
                         struct btrfs_item *ret)
{
        struct btrfs_key next;
        bool more;
        const uint8_t *leaf = leaf_find(fs, tree, key, &next, &more);
        size_t i = leaf ? entries_upto(leaf, 0, key) : 0;

        return i > 0 && item_parse(fs, leaf, i - 1, ret);
}

bool btrfs_search(struct btrfs *fs, const struct btrfs_tree *tree, const struct btrfs_key *key,
                  struct btrfs_item *ret)
{
        struct btrfs_key from = *key, next, here;
        bool more = true;

        /* where the key is behind all of its leaf, the next leaf begins with what is looked for */
        for (unsigned attempt = 0; more && attempt < 2; attempt++) {
                const uint8_t *leaf = leaf_find(fs, tree, &from, &next, &more);
                size_t i;

                if (!leaf)
                        return false;
                i = entries_upto(leaf, 0, &from);
                here = i > 0 ? entry_key(leaf, 0, i - 1) : (struct btrfs_key){0};
                if (i > 0 && key_compare(&here, &from) == 0)
                        return item_parse(fs, leaf, i - 1, ret);
                if (i < node_items(leaf))
                        return item_parse(fs, leaf, i, ret);
                if (more)
                        from = next;
        }
        return false;
}

/* --- the superblock --- */

static bool super_parse(struct btrfs *fs, const uint8_t *p)
{
        size_t system = get_le32(p + 160);

        fs->node_size = get_le32(p + 148);
        if (memcmp(p + 64, "_BHRfS_M", 8) != 0 || get_le64(p + 48) != SUPER_AT ||
            get_le64(p + 188) & ~FEATURES || fs->node_size < 4096 || fs->node_size > 65536 ||
            fs->node_size & (fs->node_size - 1) || system > SYSTEM_LEN)
                return false;
        fs->root_dir = get_le64(p + 128);
        fs->device = get_le64(p + 201);
        fs->roots = (struct btrfs_tree){.top = get_le64(p + 80), .level = p[198]};
        fs->chunks = (struct btrfs_tree){.top = get_le64(p + 88), .level = p[199], .chunks = true};
        return fs->roots.level < LEVELS && fs->chunks.level < LEVELS &&
               system_parse(fs, p + SYSTEM_AT, system);
}

int btrfs_begin(struct btrfs *fs, const struct source *src)
{
        uint8_t super[SUPER_LEN];

        *fs = (struct btrfs){.src = src, .budget = BUDGET};
        if (source_read(src, super, sizeof(super), SUPER_AT, NULL) < 0 || !super_parse(fs, super))
                return 0;
        fs->nodes = malloc(BTRFS_CACHE * fs->node_size);
        fs->packed = malloc(BTRFS_PACKED_MAX);
        fs->plain = malloc(BTRFS_PACKED_MAX);
        if (!fs->nodes || !fs->packed || !fs->plain)
                return -ENOMEM;
        for (size_t i = 0; i < BTRFS_CACHE; i++)
                fs->cache[i].data = fs->nodes + i * fs->node_size;
        return 1;
}

void btrfs_end(struct btrfs *fs)
{
        free(fs->nodes);
        free(fs->packed);
        free(fs->plain);
        *fs = (struct btrfs){0};
}
