/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/util.h"
#include "imaged/osinfo/helper.h"

#define RELEASE_MAX 16384u
#define PATH_ROOM 1024u
#define LINKS_MAX 16 /* followed for one path */

void root_look(file_begin_fn begin, void *fs, struct os_release *release, const char **architecture)
{
        static const char *const releases[] = {"/etc/os-release", "/usr/lib/os-release", "/lib/os-release"},
                                 *const programs[] = {"/bin/sh", "/usr/bin/sh", "/sbin/init", "/bin/ls"};
        char text[RELEASE_MAX];
        uint8_t head[ELF_HEAD];

        for (size_t i = 0; !release->id[0] && i < ARRAY_SIZE(releases); i++) {
                size_t n = begin(fs, releases[i], text, sizeof(text));

                if (n > 0)
                        os_release_parse(text, n, release);
        }
        for (size_t i = 0; !*architecture && i < ARRAY_SIZE(programs); i++)
                if (begin(fs, programs[i], head, sizeof(head)) == sizeof(head))
                        *architecture = elf_architecture(head);
}

/* Where a walk is: the directories from the root on, and what of the path is left. */
struct walk {
        const struct tree *tree;
        uint64_t dirs[64];
        size_t depth;
        char rest[PATH_ROOM];
        unsigned links;
};

/* Puts a link's target before the rest of the path, which is empty or begins with a slash. A target that
 * fills all the room may go on, and is refused as too long. */
static bool link_take(struct walk *w, uint64_t node, const char *rest)
{
        char target[PATH_ROOM];
        size_t n = w->tree->read(w->tree->fs, node, target, sizeof(target)), len = strlen(rest);

        if (n == 0 || w->links++ >= LINKS_MAX || n + len >= sizeof(w->rest) || memchr(target, '\0', n))
                return false;
        memmove(w->rest + n, rest, len + 1);
        memcpy(w->rest, target, n);
        if (target[0] == '/')
                w->depth = 1;
        return true;
}

/* One name of the path. Returns false where the walk ends; ret is then the file, or 0. */
static bool step(struct walk *w, uint64_t *ret)
{
        const struct tree *t = w->tree;
        const char *name = w->rest + strspn(w->rest, "/");
        size_t n = strcspn(name, "/");
        enum tree_kind kind;
        uint64_t node;

        *ret = 0;
        if (n == 0) /* a directory */
                return false;
        if ((n == 1 && name[0] == '.') || (n == 2 && name[0] == '.' && name[1] == '.')) {
                if (n == 2 && w->depth > 1)
                        w->depth--;
        } else {
                if (!t->find(t->fs, w->dirs[w->depth - 1], name, n, &node))
                        return false;
                kind = t->kind(t->fs, node);
                if (kind == TREE_LINK)
                        return link_take(w, node, name + n);
                if (kind == TREE_FILE) {
                        if (name[n] == '\0')
                                *ret = node;
                        return false;
                }
                if (kind != TREE_DIR || w->depth == ARRAY_SIZE(w->dirs))
                        return false;
                w->dirs[w->depth++] = node;
        }
        memmove(w->rest, name + n, strlen(name + n) + 1);
        return true;
}

size_t tree_begin(void *tree, const char *path, void *buf, size_t room)
{
        const struct tree *t = tree;
        struct walk w = {.tree = t, .dirs = {t->root}, .depth = 1};
        uint64_t file;

        if (strlen(path) >= sizeof(w.rest))
                return 0;
        strcpy(w.rest, path);
        while (step(&w, &file)) {
        }
        return file ? t->read(t->fs, file, buf, room) : 0;
}
