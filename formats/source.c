/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

int source_read(const struct source *src, void *buf, size_t len, uint64_t offset, struct err *err)
{
        if (offset > src->size || len > src->size - offset)
                return err_set(err, -EBADMSG,
                               "%zu bytes at offset %" PRIu64 " lie beyond the end at %" PRIu64, len, offset,
                               src->size);
        if (len == 0)
                return 0;
        return src->read(src->state, buf, len, offset, err);
}

uint64_t source_hole(const struct source *src, uint64_t offset)
{
        return src->hole && offset < src->size ? src->hole(src->state, offset) : 0;
}

static int fd_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        int fd = (int)(intptr_t)state;
        uint8_t *p = buf;

        while (len > 0) {
                ssize_t n = pread(fd, p, len, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_set(err, -errno, "cannot read at offset %" PRIu64 ": %s", offset,
                                       strerror(errno));
                if (n == 0) /* the file shrank since it was measured */
                        return err_set(err, -EIO, "the file ends at offset %" PRIu64, offset);
                p += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

/* lseek(2). A file system without holes has none. */
static uint64_t fd_hole(void *state, uint64_t offset)
{
        int fd = (int)(intptr_t)state;
        off_t data = lseek(fd, (off_t)offset, SEEK_DATA), end;

        if (data >= 0)
                return (uint64_t)data - offset;
        end = errno == ENXIO ? lseek(fd, 0, SEEK_END) : 0;
        return end > (off_t)offset ? (uint64_t)end - offset : 0;
}

int source_from_fd(int fd, struct source *ret, struct err *err)
{
        struct stat st;
        uint64_t size;

        if (fstat(fd, &st) < 0)
                return err_set(err, -errno, "cannot look at the file: %s", strerror(errno));
        if (S_ISREG(st.st_mode))
                size = (uint64_t)st.st_size;
        else if (!S_ISBLK(st.st_mode))
                return err_set(err, -EINVAL, "neither a file nor a block device");
        else if (ioctl(fd, BLKGETSIZE64, &size) < 0)
                return err_set(err, -errno, "cannot measure the block device: %s", strerror(errno));
        *ret = (struct source){.size = size, .read = fd_read, .state = (void *)(intptr_t)fd};
        if (S_ISREG(st.st_mode))
                ret->hole = fd_hole;
        return 0;
}

static int part_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct sub_source *sub = state;

        return source_read(&sub->outer, buf, len, sub->offset + offset, err);
}

struct source source_part(struct sub_source *sub, const struct source *outer, uint64_t offset, uint64_t len)
{
        *sub = (struct sub_source){*outer, offset};
        return (struct source){.size = len, .read = part_read, .state = sub};
}
