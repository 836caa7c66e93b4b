/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/power-node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

struct node power_nodes[POWER_NODES];
static int64_t clock_s = 1000000;

unsigned node_new(bool folder, uint32_t mode)
{
        for (unsigned i = 0; i < POWER_NODES; i++) {
                struct node *n = &power_nodes[i];

                if (n->used)
                        continue;
                *n = (struct node){.used = true, .folder = folder};
                n->attr = (struct fs_attr){.mode = mode,
                                           .nlink = folder ? 2 : 0,
                                           .ctime_s = clock_s,
                                           .mtime_s = clock_s,
                                           .plain = !folder};
                if (folder) {
                        n->now = calloc(1, sizeof(*n->now));
                        n->durable = calloc(1, sizeof(*n->durable));
                        if (!n->now || !n->durable)
                                abort();
                }
                return i;
        }
        abort();
}

void node_free(struct node *n)
{
        free(n->now);
        free(n->durable);
        free(n->content.data);
        free(n->kept.data);
        *n = (struct node){};
}

size_t names_find(const struct names *l, const char *name)
{
        size_t i = 0;

        while (i < l->n && !streq(l->at[i].name, name))
                i++;
        return i;
}

void names_add(struct names *l, const char *name, unsigned node)
{
        if (l->n == POWER_NAMES || strlen(name) >= POWER_NAME)
                abort();
        strcpy(l->at[l->n].name, name);
        l->at[l->n++].node = node;
}

void names_remove(struct names *l, size_t i)
{
        l->at[i] = l->at[--l->n];
}

/* The folder that `path` lies in, and its last part. */
int node_folder(const char *path, struct node **ret, const char **ret_name)
{
        struct node *at = &power_nodes[0];

        for (;;) {
                size_t n = strcspn(path, "/"), i;
                char name[POWER_NAME];

                if (!at->folder)
                        return -ENOTDIR;
                if (!path[n]) {
                        *ret = at;
                        *ret_name = path;
                        return 0;
                }
                snprintf(name, sizeof(name), "%.*s", (int)n, path);
                i = names_find(at->now, name);
                if (i == at->now->n)
                        return -ENOENT;
                at = &power_nodes[at->now->at[i].node];
                path += n + 1;
        }
}

int node_find(const char *path, unsigned *ret)
{
        struct node *folder;
        const char *name;
        size_t i;
        int r;

        if (streq(path, ".")) {
                *ret = 0;
                return 0;
        }
        r = node_folder(path, &folder, &name);
        if (r < 0)
                return r;
        i = names_find(folder->now, name);
        if (i == folder->now->n)
                return -ENOENT;
        *ret = folder->now->at[i].node;
        return 0;
}

int node_name(const char *path, unsigned node)
{
        struct node *folder;
        const char *name;
        int r = node_folder(path, &folder, &name);

        if (r < 0)
                return r;
        if (names_find(folder->now, name) < folder->now->n)
                return -EEXIST;
        names_add(folder->now, name, node);
        if (!power_nodes[node].folder)
                power_nodes[node].attr.nlink++;
        return 0;
}

static void bytes_set(struct bytes *b, const void *data, size_t len)
{
        char *copy = malloc(len + 1);

        if (!copy)
                abort();
        if (len)
                memcpy(copy, data, len);
        copy[len] = '\0';
        free(b->data);
        *b = (struct bytes){copy, len};
}

void node_write(struct node *n, const void *data, size_t len)
{
        bytes_set(&n->content, data, len);
        n->attr.size = len;
        n->attr.ctime_s = n->attr.mtime_s = clock_s;
        n->attr.ctime_ns++;
}

void node_keep(struct node *n)
{
        if (n->folder)
                *n->durable = *n->now;
        else
                bytes_set(&n->kept, n->content.data, n->content.len);
}

void node_touch(struct node *n)
{
        n->attr.ctime_s = clock_s;
}

int power_stat(const char *path, struct fs_attr *ret)
{
        unsigned node;
        int r = node_find(path, &node);

        if (r == 0)
                *ret = power_nodes[node].attr;
        return r;
}

/* What no folder leads to has gone; the rest's links are counted anew. */
static void drop_unreached(void)
{
        bool reached[POWER_NODES] = {true};

        for (bool more = true; more;) {
                more = false;
                for (unsigned i = 0; i < POWER_NODES; i++)
                        for (size_t k = 0; reached[i] && power_nodes[i].folder && k < power_nodes[i].now->n;
                             k++) {
                                more |= !reached[power_nodes[i].now->at[k].node];
                                reached[power_nodes[i].now->at[k].node] = true;
                        }
        }
        for (unsigned i = 0; i < POWER_NODES; i++)
                if (power_nodes[i].used && !reached[i])
                        node_free(&power_nodes[i]);
        for (unsigned i = 0; i < POWER_NODES; i++)
                for (size_t k = 0; power_nodes[i].folder && k < power_nodes[i].now->n; k++)
                        power_nodes[power_nodes[i].now->at[k].node].attr.nlink++;
}

void nodes_cut(enum power_loss what)
{
        for (unsigned i = 0; i < POWER_NODES; i++) {
                struct node *n = &power_nodes[i];

                if (!n->used)
                        continue;
                if (!n->folder) {
                        bytes_set(&n->content, n->kept.data, n->kept.len);
                        n->attr.size = n->content.len;
                        n->attr.nlink = 0;
                } else if (what == LOSE_ALL) {
                        *n->now = *n->durable;
                } else {
                        *n->durable = *n->now;
                }
        }
        drop_unreached();
}

void nodes_reset(void)
{
        for (unsigned i = 0; i < POWER_NODES; i++)
                node_free(&power_nodes[i]);
        node_new(true, 0755);
}

int power_own(const char *path, int64_t uid, uint32_t gid, uint32_t mode)
{
        unsigned node;
        int r = node_find(path, &node);

        if (r < 0)
                return r;
        if (uid >= 0)
                power_nodes[node].attr.uid = (uint32_t)uid;
        power_nodes[node].attr.gid = gid;
        power_nodes[node].attr.mode = mode;
        return 0;
}

int power_count(const char *path)
{
        unsigned node;
        int r = node_find(path, &node);

        return r < 0 ? r : (int)power_nodes[node].now->n;
}

void power_age(int64_t seconds)
{
        clock_s += seconds;
}
