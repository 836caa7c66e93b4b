/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/osinfo/btrfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "imaged/osinfo/helper.h"

/*
 * Subvolumes and their directories, and which of them has a system. Each is a tree with inodes of its own,
 * and a directory's entry may lead into another: so a node is a subvolume's place in a table, and an inode.
 */

#define VOLUMES_MAX 32u
#define SNAPSHOTS_MAX 512u /* looked at, to find the newest */
#define TOP_VOLUME 5u
#define PLACE_SHIFT 56

#define ENTRY_HEAD 30u
#define INODE_LEN 160u
#define ROOT_LEN 239u /* before Linux 3.6; longer since, by what is not needed here */

#define MODE_KIND 0170000u
#define MODE_DIR 0040000u
#define MODE_FILE 0100000u
#define MODE_LINK 0120000u

struct volume {
        uint64_t id, dir;
        struct btrfs_tree tree;
};

struct volumes {
        struct btrfs fs;
        struct volume list[VOLUMES_MAX];
        size_t n;
};

/* CRC-32C without its last inversion, from all ones but one. Names have 255 bytes at most. */
static uint32_t name_hash(const char *name, size_t len)
{
        uint32_t crc = ~UINT32_C(1);

        for (size_t i = 0; i < len; i++) {
                crc ^= (uint8_t)name[i];
                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
        }
        return crc;
}

/* One entry of an item that may hold several. */
struct entry {
        struct btrfs_key to; /* an inode of this tree, or another's root */
        const char *name;
        size_t len;
};

/* The entry at *at, which then is the next one's. False: the item has no more. */
static bool entry_next(const struct btrfs_item *item, size_t *at, struct entry *ret)
{
        const uint8_t *p = item->data + *at;
        size_t left = item->len - *at, len;

        if (left < ENTRY_HEAD)
                return false;
        *ret = (struct entry){
            {get_le64(p), p[8], get_le64(p + 9)}, (const char *)p + ENTRY_HEAD, get_le16(p + 27)};
        len = ENTRY_HEAD + ret->len + get_le16(p + 25);
        if (len > left)
                return false;
        *at += len;
        return true;
}

static bool entry_find(struct btrfs *fs, const struct btrfs_tree *tree, uint64_t dir, const char *name,
                       size_t len, struct btrfs_key *ret)
{
        struct btrfs_key key = {dir, BTRFS_DIR_ITEM, name_hash(name, len)};
        struct btrfs_item item;
        struct entry e;
        size_t at = 0;

        if (!btrfs_search(fs, tree, &key, &item) || item.key.object != dir ||
            item.key.type != BTRFS_DIR_ITEM || item.key.offset != key.offset)
                return false;
        while (entry_next(&item, &at, &e))
                if (e.len == len && memcmp(e.name, name, len) == 0) {
                        *ret = e.to;
                        return true;
                }
        return false;
}

/* The top directory of the subvolume with that number. */
static bool volume_open(struct volumes *v, uint64_t id, uint64_t *ret)
{
        struct btrfs_key key = {id, BTRFS_ROOT, 0};
        struct btrfs_item item;
        struct volume *new = &v->list[v->n];
        size_t i = 0;

        while (i < v->n && v->list[i].id != id)
                i++;
        if (i == v->n) {
                if (i == VOLUMES_MAX || !btrfs_search(&v->fs, &v->fs.roots, &key, &item) ||
                    item.key.object != id || item.key.type != BTRFS_ROOT || item.len < ROOT_LEN)
                        return false;
                *new = (struct volume){.id = id,
                                       .dir = get_le64(item.data + 168),
                                       .tree = {.top = get_le64(item.data + 176), .level = item.data[238]}};
                if (new->tree.level > 7 || new->dir >> PLACE_SHIFT != 0)
                        return false;
                v->n++;
        }
        *ret = (uint64_t)(i + 1) << PLACE_SHIFT | v->list[i].dir;
        return true;
}

static const struct volume *node_volume(const struct volumes *v, uint64_t node, uint64_t *ret_inode)
{
        *ret_inode = node & ((UINT64_C(1) << PLACE_SHIFT) - 1);
        return &v->list[(node >> PLACE_SHIFT) - 1];
}

static bool find(void *state, uint64_t dir, const char *name, size_t len, uint64_t *ret)
{
        struct volumes *v = state;
        struct btrfs_key to;
        uint64_t inode;
        const struct volume *volume = node_volume(v, dir, &inode);

        if (!entry_find(&v->fs, &volume->tree, inode, name, len, &to))
                return false;
        if (to.type == BTRFS_ROOT)
                return volume_open(v, to.object, ret);
        if (to.type != BTRFS_INODE || to.object >> PLACE_SHIFT != 0)
                return false;
        *ret = dir - inode + to.object;
        return true;
}

static bool inode_get(struct volumes *v, uint64_t node, enum tree_kind *ret_kind, uint64_t *ret_size)
{
        uint64_t inode;
        const struct volume *volume = node_volume(v, node, &inode);
        struct btrfs_key key = {inode, BTRFS_INODE, 0};
        struct btrfs_item item;

        if (!btrfs_search(&v->fs, &volume->tree, &key, &item) || item.key.object != inode ||
            item.key.type != BTRFS_INODE || item.len < INODE_LEN)
                return false;
        *ret_size = get_le64(item.data + 16);
        switch (get_le32(item.data + 52) & MODE_KIND) {
        case MODE_DIR:
                *ret_kind = TREE_DIR;
                break;
        case MODE_FILE:
                *ret_kind = TREE_FILE;
                break;
        case MODE_LINK:
                *ret_kind = TREE_LINK;
                break;
        default:
                *ret_kind = TREE_OTHER;
        }
        return true;
}

static enum tree_kind kind(void *state, uint64_t node)
{
        enum tree_kind ret = TREE_OTHER;
        uint64_t size;

        return inode_get(state, node, &ret, &size) ? ret : TREE_OTHER;
}

static size_t content(void *state, uint64_t node, void *buf, size_t room)
{
        struct volumes *v = state;
        enum tree_kind what;
        uint64_t inode, size;
        const struct volume *volume = node_volume(v, node, &inode);

        if (!inode_get(v, node, &what, &size))
                return 0;
        return btrfs_content(&v->fs, &volume->tree, inode, buf, (size_t)MIN_OF(size, (uint64_t)room));
}

/* --- which of them has the system --- */

static void volume_look(struct volumes *v, uint64_t root, struct os_release *release,
                        const char **architecture)
{
        struct tree tree = {.fs = v, .root = root, .find = find, .kind = kind, .read = content};

        root_look(tree_begin, &tree, release, architecture);
}

/* The subvolume that is mounted where none is named: what "default" says in the root tree's directory. */
static uint64_t default_volume(struct volumes *v)
{
        struct btrfs_key to;

        if (entry_find(&v->fs, &v->fs.roots, v->fs.root_dir, "default", strlen("default"), &to) &&
            to.type == BTRFS_ROOT)
                return to.object;
        return TOP_VOLUME;
}

static bool below(struct volumes *v, uint64_t dir, const char *const *names, size_t n, uint64_t *ret)
{
        *ret = dir;
        for (size_t i = 0; i < n; i++)
                if (!find(v, *ret, names[i], strlen(names[i]), ret))
                        return false;
        return true;
}

/* Snapper's numbers: the highest is of the latest state, unless the default subvolume says otherwise. */
static unsigned newest_snapshot(struct volumes *v, uint64_t dir)
{
        uint64_t inode;
        const struct volume *volume = node_volume(v, dir, &inode);
        struct btrfs_key key = {inode, BTRFS_DIR_INDEX, 0};
        struct btrfs_item item;
        unsigned newest = 0;

        for (unsigned i = 0; i < SNAPSHOTS_MAX; i++) {
                struct entry e;
                unsigned number = 0;
                size_t at = 0, k = 0;

                if (!btrfs_search(&v->fs, &volume->tree, &key, &item) || item.key.object != inode ||
                    item.key.type != BTRFS_DIR_INDEX || item.key.offset == UINT64_MAX)
                        break;
                key.offset = item.key.offset + 1;
                if (!entry_next(&item, &at, &e) || e.len > 8)
                        continue;
                for (; k < e.len && e.name[k] >= '0' && e.name[k] <= '9'; k++)
                        number = number * 10 + (unsigned)(e.name[k] - '0');
                if (k == e.len)
                        newest = MAX_OF(newest, number);
        }
        return newest;
}

/* Where distributions have their root when nothing says so: Fedora; Ubuntu and Arch; Debian; openSUSE. */
static bool usual_volume(struct volumes *v, uint64_t top, size_t i, uint64_t *ret)
{
        static const char *const names[] = {"root", "@", "@rootfs"}, *const snapshots[] = {"@",
                                                                                           ".snapshots"};
        char number[16];
        const char *const snapshot[] = {number, "snapshot"};
        uint64_t dir;

        if (i < ARRAY_SIZE(names))
                return below(v, top, &names[i], 1, ret);
        if (!below(v, top, snapshots, ARRAY_SIZE(snapshots), &dir))
                return false;
        snprintf(number, sizeof(number), "%u", newest_snapshot(v, dir));
        return below(v, dir, snapshot, ARRAY_SIZE(snapshot), ret);
}

static void volumes_look(struct volumes *v, struct os_release *release, const char **architecture)
{
        uint64_t id = default_volume(v), top, root;

        if (volume_open(v, id, &root))
                volume_look(v, root, release, architecture);
        if (release->id[0] || !volume_open(v, TOP_VOLUME, &top))
                return;
        if (id != TOP_VOLUME)
                volume_look(v, top, release, architecture);
        for (size_t i = 0; !release->id[0] && i < 4; i++)
                if (usual_volume(v, top, i, &root))
                        volume_look(v, root, release, architecture);
}

int btrfs_look(const struct source *src, struct os_release *release, const char **architecture,
               struct err *err)
{
        struct volumes v = {0};
        int r = btrfs_begin(&v.fs, src);

        if (r > 0)
                volumes_look(&v, release, architecture);
        btrfs_end(&v.fs);
        return r < 0 ? err_set(err, r, "out of memory") : 0;
}
