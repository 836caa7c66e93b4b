/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "imaged/osinfo/helper.h"

/* pack-btrfs FILE >INPUT: of a file with a btrfs, the sectors that btrfs_look() reads, packed for packed.c.
 * The rest, most of it of no use to a test, reads as zeros then. */
#define SECTOR 512u
#define RUN_MAX 64u

struct noted {
        struct source file;
        uint8_t *read; /* a byte a sector: it was */
};

static int noted_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct noted *n = state;

        for (uint64_t i = offset / SECTOR; i <= (offset + len - 1) / SECTOR; i++)
                n->read[i] = 1;
        return source_read(&n->file, buf, len, offset, err);
}

static int put(const void *p, size_t len)
{
        return fwrite(p, 1, len, stdout) == len ? 0 : -EIO;
}

/* The run of sectors that begins at one: those that were read and are not zeros. */
static size_t run_get(const struct noted *n, uint64_t at, uint64_t end, uint8_t *buf)
{
        size_t len = 0;

        for (; at < end && len < RUN_MAX * SECTOR && n->read[at]; at++, len += SECTOR)
                if (source_read(&n->file, buf + len, SECTOR, at * SECTOR, NULL) < 0 ||
                    bytes_are_zero(buf + len, SECTOR))
                        break;
        return len;
}

static int pack(const struct noted *n)
{
        static uint8_t buf[RUN_MAX * SECTOR];
        uint64_t end = n->file.size / SECTOR;
        uint8_t head[6];
        int r;

        put_le32(head, (uint32_t)end);
        r = put(head, 4);
        for (uint64_t at = 0; r == 0 && at < end;) {
                size_t len = run_get(n, at, end, buf);

                put_le32(head, (uint32_t)at);
                put_le16(head + 4, (uint16_t)len);
                if (len > 0)
                        r = put(head, 6) < 0 || put(buf, len) < 0 ? -EIO : 0;
                at += len > 0 ? len / SECTOR : 1;
        }
        return r;
}

int main(int argc, char **argv)
{
        struct noted noted = {0};
        struct source src;
        struct os_release release = {0};
        const char *architecture = NULL;
        int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1, r;

        if (fd < 0 || source_from_fd(fd, &noted.file, NULL) < 0) {
                fprintf(stderr, "usage: pack-btrfs FILE >INPUT\n");
                return 2;
        }
        noted.read = calloc(1, noted.file.size / SECTOR + 1);
        if (!noted.read)
                return 1;
        src = (struct source){.size = noted.file.size, .read = noted_read, .state = &noted};
        btrfs_look(&src, &release, &architecture, NULL);
        fprintf(stderr, "%s %s %s\n", release.id, release.version_id, architecture ? architecture : "-");
        r = pack(&noted);
        free(noted.read);
        close(fd);
        return r == 0 && fflush(stdout) == 0 ? 0 : 1;
}
