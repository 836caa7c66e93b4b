/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/power-node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

struct fs_file {
        unsigned node;
};

static enum power_fault aimed;
static unsigned aimed_at, ops_done;
static bool off;
static uint64_t room;

static enum power_fault fault_now(void)
{
        if (off)
                return POWER_OFF;
        if (ops_done++ != aimed_at || aimed == POWER_NONE)
                return POWER_NONE;
        off = aimed == POWER_OFF;
        return aimed;
}

/* do() unless the fault forbids it. */
#define OPERATION(room, do)                                                                                 \
        __extension__({                                                                                     \
                enum power_fault f_ = fault_now();                                                          \
                int r_ = f_ == POWER_FAIL || f_ == POWER_OFF ? -EIO                                         \
                         : f_ == POWER_FULL && (room)        ? -ENOSPC                                      \
                         : f_ == POWER_DROP                  ? -ETIMEDOUT                                   \
                                                             : (do);                                                         \
                if (f_ == POWER_LOSE)                                                                       \
                        r_ = -ETIMEDOUT;                                                                    \
                r_ < 0 ? err_set(err, r_, "%s: error %d", __func__, -r_) : r_;                              \
        })

/* --- operations on names --- */

static int make_folder(const char *path, uint32_t mode)
{
        unsigned node = node_new(true, mode);
        int r = node_name(path, node);

        if (r < 0)
                node_free(&power_nodes[node]);
        return r;
}

static int power_mkdir(struct fs *fs, const char *path, uint32_t mode, struct err *err)
{
        return OPERATION(true, make_folder(path, mode));
}

static int take_name(const char *path, bool folder_wanted)
{
        struct node *folder, *n;
        const char *name;
        size_t i;
        int r = node_folder(path, &folder, &name);

        if (r < 0)
                return r;
        i = names_find(folder->now, name);
        if (i == folder->now->n)
                return -ENOENT;
        n = &power_nodes[folder->now->at[i].node];
        if (n->folder != folder_wanted)
                return n->folder ? -EISDIR : -ENOTDIR;
        if (n->folder && n->now->n > 0)
                return -ENOTEMPTY;
        if (!n->folder)
                n->attr.nlink--;
        names_remove(folder->now, i);
        return 0;
}

static int power_rmdir(struct fs *fs, const char *path, struct err *err)
{
        return OPERATION(false, take_name(path, true));
}

static int power_remove(struct fs *fs, const char *path, struct err *err)
{
        return OPERATION(false, take_name(path, false));
}

static int call_names(const char *path, fs_name_cb cb, void *arg)
{
        struct names copy;
        unsigned node;
        int r = node_find(path, &node);

        if (r < 0)
                return r;
        if (!power_nodes[node].folder)
                return -ENOTDIR;
        copy = *power_nodes[node].now;
        for (size_t i = 0; i < copy.n && r == 0; i++)
                r = cb(arg, copy.at[i].name);
        return r;
}

static int power_list(struct fs *fs, const char *path, fs_name_cb cb, void *arg, struct err *err)
{
        enum power_fault f = fault_now();

        if (f != POWER_NONE && f != POWER_FULL)
                return err_set(err, f == POWER_DROP || f == POWER_LOSE ? -ETIMEDOUT : -EIO, "list %s", path);
        int r = call_names(path, cb, arg);

        return r < 0 ? err_set(err, r, "list %s: error %d", path, -r) : r;
}

static int make_file(const char *path, const void *data, size_t len, const struct fs_owner *owner,
                     bool durable)
{
        unsigned node = node_new(false, owner->mode);
        struct node *n = &power_nodes[node];
        int r = node_name(path, node);

        if (r < 0) {
                node_free(n);
                return r;
        }
        n->attr.uid = owner->uid;
        n->attr.gid = owner->gid;
        node_write(n, data, len);
        if (durable)
                node_keep(n);
        return 0;
}

static int power_put(struct fs *fs, const char *path, const void *data, size_t len,
                     const struct fs_owner *owner, bool durable, struct err *err)
{
        return OPERATION(true, make_file(path, data, len, owner, durable));
}

static int power_read(struct fs *fs, const char *folder, const char *const *names, size_t n, size_t max,
                      fs_text_cb cb, void *arg, struct err *err)
{
        enum power_fault f = fault_now();

        if (f != POWER_NONE && f != POWER_FULL)
                return err_set(err, f == POWER_DROP || f == POWER_LOSE ? -ETIMEDOUT : -EIO, "read %s",
                               folder);
        for (size_t i = 0; i < n; i++) {
                char path[POWER_NAME * 4];
                unsigned node;
                int r;

                snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
                r = node_find(path, &node);
                if (r == 0 && power_nodes[node].content.len > max)
                        r = -EFBIG;
                r = r < 0 ? cb(arg, i, r, NULL, 0)
                          : cb(arg, i, 0, power_nodes[node].content.data, power_nodes[node].content.len);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int link_file(const char *from, const char *to)
{
        unsigned node;
        int r = node_find(from, &node);

        if (r == 0)
                r = node_name(to, node);
        if (r == 0)
                node_touch(&power_nodes[node]);
        return r;
}

static int power_link(struct fs *fs, const char *from, const char *to, struct err *err)
{
        return OPERATION(true, link_file(from, to));
}

static int move(const char *from, const char *to)
{
        struct node *old, *new;
        const char *old_name, *new_name;
        unsigned node, there;
        size_t i;
        int r = node_find(from, &node);

        if (r == 0)
                r = node_folder(from, &old, &old_name);
        if (r == 0)
                r = node_folder(to, &new, &new_name);
        if (r < 0)
                return r;
        if (node_find(to, &there) == 0) {
                if (there == node)
                        return 0;
                r = take_name(to, power_nodes[node].folder);
                if (r < 0)
                        return r == -ENOTEMPTY ? -EEXIST : r;
        }
        i = names_find(old->now, old_name);
        names_remove(old->now, i);
        names_add(new->now, new_name, node);
        return 0;
}

static int power_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
        return OPERATION(true, move(from, to));
}

static int power_look(struct fs *fs, const char *path, struct fs_attr *ret, struct err *err)
{
        return OPERATION(false, power_stat(path, ret));
}

static int sync_all(const char *const *paths, size_t n)
{
        if (n > FS_SYNC_MAX)
                abort();
        for (size_t i = 0; i < n; i++) {
                unsigned node;
                int r = node_find(paths[i], &node);

                if (r < 0)
                        return r;
                node_keep(&power_nodes[node]);
        }
        return 0;
}

static int power_sync(struct fs *fs, const char *const *paths, size_t n, struct err *err)
{
        return OPERATION(false, sync_all(paths, n));
}

static int power_space(struct fs *fs, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        *ret_total = *ret_free = room;
        return 0;
}

static void power_close(struct fs *fs)
{
}

/* --- open files --- */

static int open_node(unsigned node, struct fs_file **ret)
{
        *ret = malloc(sizeof(**ret));
        if (!*ret)
                abort();
        (*ret)->node = node;
        return 0;
}

static int make_empty(const char *path, uint64_t size, struct fs_file **ret)
{
        static const struct fs_owner owner = {.mode = 0600};
        _cleanup_(freep) char *zeros = calloc(1, size + 1);
        unsigned node;
        int r = make_file(path, zeros, size, &owner, false);

        if (r < 0)
                return r;
        node_find(path, &node);
        return open_node(node, ret);
}

static int file_create(struct fs *fs, const char *path, uint64_t size, struct fs_file **ret, struct err *err)
{
        struct fs_file *f = NULL;
        int r = OPERATION(true, make_empty(path, size, &f));

        if (r < 0)
                free(f);
        else
                *ret = f;
        return r;
}

static int file_open(struct fs *fs, const char *path, bool write, struct fs_file **ret, uint64_t *ret_size,
                     struct err *err)
{
        unsigned node = 0;
        int r = OPERATION(false, node_find(path, &node));

        if (r < 0)
                return r;
        *ret_size = power_nodes[node].content.len;
        return open_node(node, ret);
}

static int get(struct fs_file *f, void *buf, size_t len, uint64_t offset)
{
        const struct bytes *b = &power_nodes[f->node].content;

        if (offset + len > b->len)
                return -EIO;
        memcpy(buf, b->data + offset, len);
        return 0;
}

static int file_get(struct fs_file *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return OPERATION(false, get(f, buf, len, offset));
}

static int file_cut(struct fs_file *f, uint64_t size)
{
        _cleanup_(freep) char *data = calloc(1, size + 1);
        struct node *n = &power_nodes[f->node];

        memcpy(data, n->content.data, MIN_OF(size, n->content.len));
        node_write(n, data, size);
        return 0;
}

static int set(struct fs_file *f, const void *buf, size_t len, uint64_t offset)
{
        if (offset + len > power_nodes[f->node].content.len)
                file_cut(f, offset + len);
        memcpy(power_nodes[f->node].content.data + offset, buf, len);
        return 0;
}

static int file_set(struct fs_file *f, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        return OPERATION(true, set(f, buf, len, offset));
}

static int file_resize(struct fs_file *f, uint64_t size, struct err *err)
{
        return OPERATION(true, file_cut(f, size));
}

static int close_up(struct fs_file *f, const struct fs_owner *owner)
{
        struct node *n = &power_nodes[f->node];

        node_keep(n);
        n->attr.uid = owner->uid;
        n->attr.gid = owner->gid;
        n->attr.mode = owner->mode;
        return 0;
}

static int file_seal(struct fs_file *f, const struct fs_owner *owner, struct err *err)
{
        return OPERATION(true, close_up(f, owner));
}

static void file_close(struct fs_file *f)
{
        free(f);
}

static int overwrite(const char *path, const void *data, size_t len)
{
        static const struct fs_owner owner = {.mode = 0600};
        unsigned node;
        int r = node_find(path, &node);

        if (r == -ENOENT)
                return make_file(path, data, len, &owner, false);
        return r < 0 ? r : set(&(struct fs_file){node}, data, len, 0);
}

static int file_poke(struct fs *fs, const char *path, const void *data, size_t len, struct err *err)
{
        return OPERATION(true, overwrite(path, data, len));
}

/* --- the test's side --- */

struct fs *power_fs(void)
{
        static const struct fs_ops ops = {.mkdir = power_mkdir,
                                          .rmdir = power_rmdir,
                                          .list = power_list,
                                          .put = power_put,
                                          .read = power_read,
                                          .link = power_link,
                                          .rename = power_rename,
                                          .remove = power_remove,
                                          .stat = power_look,
                                          .sync = power_sync,
                                          .space = power_space,
                                          .close = power_close};
        static const struct fs_file_ops file_ops = {.create = file_create,
                                                    .open = file_open,
                                                    .read = file_get,
                                                    .write = file_set,
                                                    .resize = file_resize,
                                                    .seal = file_seal,
                                                    .close = file_close,
                                                    .poke = file_poke};
        static struct fs fs = {.ops = &ops, .file = &file_ops};

        return &fs;
}

void power_reset(void)
{
        nodes_reset();
        off = false;
        room = 0;
        power_aim(POWER_NONE, 0);
}

void power_room(uint64_t bytes)
{
        room = bytes;
}

void power_aim(enum power_fault fault, unsigned number)
{
        aimed = fault;
        aimed_at = number;
        ops_done = 0;
}

unsigned power_ops(void)
{
        return ops_done;
}

void power_cut(enum power_loss what)
{
        nodes_cut(what);
        off = false;
        power_aim(POWER_NONE, 0);
}
