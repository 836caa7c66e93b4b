/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/osinfo/helper.h"

/*
 * ext2, ext3 and ext4 by libext2fs, over a source in place of a device. It is e2fsck's own library, made for
 * file systems that are not well; and it runs in the helper, within its limits. No journal is replayed: an
 * image of a disk that was not unmounted shows the state before.
 */
struct channel {
        const struct source *fs;
};

static errcode_t channel_close(io_channel ch)
{
        free(ch->name);
        free(ch->private_data);
        free(ch);
        return 0;
}

static errcode_t channel_set_blksize(io_channel ch, int size)
{
        ch->block_size = size;
        return 0;
}

/* count below 0: so many bytes, as libext2fs has it. What is beyond the end reads as an error. */
static errcode_t channel_read64(io_channel ch, unsigned long long block, int count, void *data)
{
        const struct channel *c = ch->private_data;
        uint64_t size = (uint64_t)ch->block_size, offset, len;

        len = count < 0 ? (uint64_t) - (int64_t)count : (uint64_t)count * size;
        if (__builtin_mul_overflow(block, size, &offset) ||
            source_read(c->fs, data, (size_t)len, offset, NULL) < 0)
                return EXT2_ET_SHORT_READ;
        return 0;
}

static errcode_t channel_read(io_channel ch, unsigned long block, int count, void *data)
{
        return channel_read64(ch, block, count, data);
}

static errcode_t channel_write64(io_channel ch, unsigned long long block, int count, const void *data)
{
        return EXT2_ET_RO_FILSYS;
}

static errcode_t channel_write(io_channel ch, unsigned long block, int count, const void *data)
{
        return EXT2_ET_RO_FILSYS;
}

static errcode_t channel_flush(io_channel ch)
{
        return 0;
}

static errcode_t channel_open(const char *name, int flags, io_channel *ret);

static const struct struct_io_manager manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "source",
    .open = channel_open,
    .close = channel_close,
    .set_blksize = channel_set_blksize,
    .read_blk = channel_read,
    .write_blk = channel_write,
    .flush = channel_flush,
    .read_blk64 = channel_read64,
    .write_blk64 = channel_write64,
};

/* libext2fs has a name only to hand over: it is the source's address. */
static errcode_t channel_open(const char *name, int flags, io_channel *ret)
{
        io_channel ch = calloc(1, sizeof(*ch));
        struct channel *c = calloc(1, sizeof(*c));
        char *copy = strdup(name);

        if (!ch || !c || !copy) {
                free(ch);
                free(c);
                free(copy);
                return EXT2_ET_NO_MEMORY;
        }
        c->fs = (const struct source *)(uintptr_t)strtoull(name, NULL, 16);
        ch->magic = EXT2_ET_MAGIC_IO_CHANNEL;
        ch->manager = (io_manager)(uintptr_t)&manager;
        ch->name = copy;
        ch->block_size = 1024;
        ch->refcount = 1;
        ch->private_data = c;
        *ret = ch;
        return 0;
}

/* The first bytes of a plain file; links are followed, inside of this file system. */
static size_t file_begin(void *state, const char *path, void *buf, size_t room)
{
        ext2_filsys fs = state;
        struct ext2_inode inode;
        ext2_file_t file;
        ext2_ino_t ino;
        unsigned n = 0;

        if (ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) ||
            ext2fs_read_inode(fs, ino, &inode) || !LINUX_S_ISREG(inode.i_mode) ||
            ext2fs_file_open(fs, ino, 0, &file))
                return 0;
        if (ext2fs_file_read(file, buf, (unsigned)room, &n))
                n = 0;
        ext2fs_file_close(file);
        return n;
}

int ext_look(const struct source *src, struct os_release *release, const char **architecture,
             struct err *err)
{
        char name[32];
        ext2_filsys fs = NULL;
        errcode_t e;

        snprintf(name, sizeof(name), "%llx", (unsigned long long)(uintptr_t)src);
        e = ext2fs_open2(name, NULL, EXT2_FLAG_64BITS | EXT2_FLAG_IGNORE_CSUM_ERRORS, 0, 0,
                         (io_manager)(uintptr_t)&manager, &fs);
        if (e == EXT2_ET_NO_MEMORY)
                return err_set(err, -ENOMEM, "out of memory");
        if (e)
                return 0;
        root_look(file_begin, fs, release, architecture);
        ext2fs_close_free(&fs);
        return 0;
}
