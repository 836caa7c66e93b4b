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

/* Looks for an os-release file and a shell in an ext2, ext3 or ext4 file system: fills what it finds of
 * release (id is not empty then) and architecture. Returns 0 too where it is no such file system. */
int ext_look(const struct source *fs, struct os_release *release, const char **architecture,
             struct err *err);

/* Looks the system up in libosinfo's database, and fills id, name, distro, version, type, architecture and
 * the minimum resources. */
int database_media(const struct iso_probe *iso, struct osinfo *o, struct err *err);
int database_release(const struct os_release *release, struct osinfo *o, struct err *err);

/* The system that a volume identifier names by itself, "Debian 12.5.0 amd64 n", "Rocky-9-4-x86_64-dvd": its
 * first word has to be a known distribution's, and a number has to follow. Fills distro, version and
 * architecture; false: it names none. */
bool volume_id_parse(const char *volume, struct osinfo *o);
