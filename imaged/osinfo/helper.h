/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"
#include "formats/probe.h"
#include "imaged/osinfo/osinfo.h"

/* What the parts of the helper process share. */

/* Gives up every right and takes the limits on; before the first byte of a stranger's. */
int sandbox_enter(struct err *err);

/* The disk, behind the socket: asks the caller for the bytes. One thread. */
int remote_begin(int fd, struct source *ret, bool *ret_iso, struct err *err);
void remote_end(struct source *src);

/* What an os-release file says. Unknown: empty. Source: os-release(5) */
struct os_release {
        char id[32], version_id[32], name[96];
};
void os_release_parse(const char *text, size_t len, struct os_release *ret);

/* The architecture that an ELF header of at least 20 bytes names, in libosinfo's words; NULL: none of those.
 */
#define ELF_HEAD 20u
const char *elf_architecture(const uint8_t *head);

/*
 * What is found in a root file system, or in a /usr of its own: fills what it finds of release (id is not
 * empty then) and architecture. begin: the first bytes, room at most, of the plain file at a path, links
 * followed inside of the file system; returns how many, 0 where there is none.
 */
typedef size_t (*file_begin_fn)(void *fs, const char *path, void *buf, size_t room);
void root_look(file_begin_fn begin, void *fs, struct os_release *release, const char **architecture);

/* A file system as tree_begin(), a file_begin_fn with a `struct tree *` for its fs, walks it. Nodes are
 * numbers of the file system's own, never 0. What cannot be read is not there. */
enum tree_kind { TREE_OTHER, TREE_FILE, TREE_DIR, TREE_LINK };
struct tree {
        void *fs;
        uint64_t root;
        bool (*find)(void *fs, uint64_t dir, const char *name, size_t len, uint64_t *ret);
        enum tree_kind (*kind)(void *fs, uint64_t node);
        size_t (*read)(void *fs, uint64_t node, void *buf, size_t room); /* a file's or a link's beginning */
};
size_t tree_begin(void *tree, const char *path, void *buf, size_t room);

/* root_look() in a file system of that kind. Returns 0 too where it is none. */
int ext_look(const struct source *fs, struct os_release *release, const char **architecture,
             struct err *err); /* ext2, ext3 and ext4 */
int xfs_look(const struct source *fs, struct os_release *release, const char **architecture,
             struct err *err);
int btrfs_look(const struct source *fs, struct os_release *release, const char **architecture,
               struct err *err);

/* Looks the system up in libosinfo's database, and fills id, name, distro, version, type, architecture and
 * the minimum resources. */
int database_media(const struct iso_probe *iso, struct osinfo *o, struct err *err);
int database_release(const struct os_release *release, struct osinfo *o, struct err *err);

/* The system that a volume identifier names by itself, "Debian 12.5.0 amd64 n", "Rocky-9-4-x86_64-dvd": its
 * first word has to be a known distribution's, and a number has to follow. Fills distro, version and
 * architecture; false: it names none. */
bool volume_id_parse(const char *volume, struct osinfo *o);
