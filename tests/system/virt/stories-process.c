/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/system/virt/lab.h"
#include "tests/system/virt/stories.h"

/*
 * A process whose command line nobody can read, as one that hangs in storage: somebody reads its memory, a page
 * of a file whose file system does not answer, and holds the lock of its address space meanwhile; it wants to
 * change that, and waits; whoever comes then waits behind it. The file system is this test's own: it answers
 * every request of FUSE's but READ.
 */

#define FILE_NODE 2
#define FILE_SIZE 4096

struct silent {
        int fd;    /* /dev/fuse */
        pid_t pid; /* the process that cannot be looked at */
        int go;    /* a byte here lets it go on */
        void *page;
        char folder[128];
        atomic_bool asked; /* the file system has a READ */
        pthread_t server, holder;
};

static void answer(int fd, const struct fuse_in_header *in, int error, const void *body, size_t len)
{
        struct fuse_out_header out = {
            .len = (uint32_t)(sizeof out + len), .error = error, .unique = in->unique};
        char buf[256];

        memcpy(buf, &out, sizeof out);
        if (len)
                memcpy(buf + sizeof out, body, len);
        (void)!write(fd, buf, sizeof out + len);
}

static struct fuse_attr attr_of(uint64_t node)
{
        return (struct fuse_attr){.ino = node,
                                  .size = node == FILE_NODE ? FILE_SIZE : 0,
                                  .mode = node == FILE_NODE ? S_IFREG | 0444 : S_IFDIR | 0755,
                                  .nlink = 1};
}

static void *serve(void *arg)
{
        struct silent *s = arg;
        union {
                struct fuse_in_header in;
                char bytes[FUSE_MIN_READ_BUFFER + 4096];
        } buf;

        while (read(s->fd, &buf, sizeof buf) > 0) {
                const struct fuse_init_in *theirs = (const void *)(buf.bytes + sizeof buf.in);
                struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .max_write = 4096};
                struct fuse_entry_out entry = {.nodeid = FILE_NODE, .attr = attr_of(FILE_NODE)};
                struct fuse_attr_out attr = {.attr = attr_of(buf.in.nodeid)};
                struct fuse_open_out opened = {.fh = 1};

                switch (buf.in.opcode) {
                case FUSE_INIT:
                        init.minor = theirs->minor;
                        answer(s->fd, &buf.in, 0, &init, sizeof init);
                        break;
                case FUSE_LOOKUP:
                        answer(s->fd, &buf.in, 0, &entry, sizeof entry);
                        break;
                case FUSE_GETATTR:
                        answer(s->fd, &buf.in, 0, &attr, sizeof attr);
                        break;
                case FUSE_OPEN:
                        answer(s->fd, &buf.in, 0, &opened, sizeof opened);
                        break;
                case FUSE_READ:
                        s->asked = true;
                        break;
                case FUSE_FORGET:
                case FUSE_BATCH_FORGET:
                case FUSE_INTERRUPT:
                        break;
                default:
                        answer(s->fd, &buf.in, -ENOSYS, NULL, 0);
                }
        }
        return NULL;
}

/* The child, in host 1's network, as a guest of that host would be. */
static void hang(const char *path, int tell, int go)
{
        int netns = open("/run/netns/wvt-1", O_RDONLY | O_CLOEXEC), fd = open(path, O_RDONLY);
        void *page = fd < 0 ? MAP_FAILED : mmap(NULL, FILE_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
        char byte;

        if (netns < 0 || setns(netns, CLONE_NEWNET) < 0 || page == MAP_FAILED ||
            write(tell, &page, sizeof page) != sizeof page || read(go, &byte, 1) != 1)
                _exit(1);
        (void)mmap(NULL, FILE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        _exit(0);
}

static ssize_t proc_read(pid_t pid, const char *what, off_t at, char *buf, size_t len)
{
        char path[64];
        ssize_t n;
        int fd;

        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : pread(fd, buf, len, at);
        if (fd >= 0)
                close(fd);
        return n;
}

static void *hold(void *arg)
{
        struct silent *s = arg;
        char byte;

        (void)proc_read(s->pid, "mem", (off_t)(uintptr_t)s->page, &byte, 1);
        return NULL;
}

static bool waits(pid_t pid)
{
        char stat[512] = "";
        const char *name;

        (void)proc_read(pid, "stat", 0, stat, sizeof stat - 1);
        name = strrchr(stat, ')');
        return name && name[2] == 'D';
}

static void silent_open(struct silent *s)
{
        char options[96], path[160];
        int tell[2], go[2];

        s->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        assert_true(s->fd >= 0);
        snprintf(s->folder, sizeof s->folder, "%s/silent", lab->folder);
        shell(NULL, 0, "mkdir -p %s", s->folder);
        snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", s->fd);
        assert_int_equal(mount("silent", s->folder, "fuse", MS_NOSUID | MS_NODEV, options), 0);
        assert_int_equal(pthread_create(&s->server, NULL, serve, s), 0);
        snprintf(path, sizeof path, "%s/file", s->folder);
        assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
        assert_int_equal(pipe2(go, O_CLOEXEC), 0);
        s->pid = fork();
        if (s->pid == 0)
                hang(path, tell[1], go[0]);
        close(tell[1]);
        close(go[0]);
        s->go = go[1];
        assert_int_equal(read(tell[0], &s->page, sizeof s->page), sizeof s->page);
        close(tell[0]);
        assert_int_equal(pthread_create(&s->holder, NULL, hold, s), 0);
        while (!s->asked)
                usleep(1000);
        assert_int_equal(write(s->go, "g", 1), 1);
        while (!waits(s->pid))
                usleep(1000);
}

/* The file system goes: whoever waits for it gets an error. */
static void silent_close(struct silent *s)
{
        kill(s->pid, SIGKILL);
        assert_int_equal(umount2(s->folder, MNT_FORCE | MNT_DETACH), 0);
        pthread_join(s->server, NULL);
        pthread_join(s->holder, NULL);
        close(s->fd);
        close(s->go);
        waitpid(s->pid, NULL, 0);
        shell(NULL, 0, "rmdir %s", s->folder);
}

static void *read_cmdline(void *arg)
{
        char buf[64];

        (void)proc_read(*(pid_t *)arg, "cmdline", 0, buf, sizeof buf);
        return NULL;
}

void process_that_cannot_be_read_holds_up_nobody(void **state)
{
        struct silent s = {0};
        struct guest g;
        struct err err = {0};
        struct timespec until;
        pthread_t plain;
        int64_t begin;

        lab_reset(NULL, NULL);
        guest_make(&g, "beside");
        assert_ok(guest_start(&g, 1, &err), &err);
        silent_open(&s);
        /* It does hang: a plain read of its command line is not back after a second. */
        assert_int_equal(pthread_create(&plain, NULL, read_cmdline, &s.pid), 0);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        assert_int_equal(pthread_timedjoin_np(plain, NULL, &until), ETIMEDOUT);

        begin = clock_ms();
        for (int i = 0; i < 5; i++) /* the first look waits for it, the others know */
                assert_true(qemu_pid(1, g.id) > 0);
        printf("    MEASURED five looks beside a process that hangs: %d ms\n", (int)(clock_ms() - begin));
        assert_int_equal(qemu_unread(1), 1);
        assert_int_equal(qemu_unread(2), 0); /* in another network: not looked at */
        assert_int_equal(virt_kill_pid(lab->hosts[1].virt, s.pid, g.id, &err), -ETIMEDOUT);
        assert_ok(virt_kill_pid(lab->hosts[1].virt, qemu_pid(1, g.id), g.id, &err), &err);
        silent_close(&s);
        pthread_join(plain, NULL);
        assert_int_equal(qemu_unread(1), 0);
        assert_int_equal(qemu_pid(1, g.id), 0);
        guest_remove(&g);
}
