/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "hostd/config.h"
#include "hostd/hostd.h"

#define EXIT_SUPERSEDED                                                                                     \
        3 /* hostd.service does not start it again: the two would end each other by turns                   \
           */

static void help(void)
{
        printf("usage: hostd [--config FILE] [--debug]\n"
               "\n"
               "Runs on every KVM host: boots, stops, moves and restarts instances straight from the shared "
               "storage.\n"
               "\n"
               "  -c, --config FILE  default /etc/wherry/hostd.conf\n"
               "  -d, --debug        log every step\n"
               "  -h, --help         this text\n"
               "  -V, --version      the version\n"
               "\n"
               "Settings:\n");
        config_help(stdout);
        printf("\nlibvirt has to ask hostd before it runs a guest: set lock_manager = \"wherry\" in "
               "/etc/libvirt/qemu.conf\n"
               "and restart libvirtd. `systemctl restart hostd` is harmless: guests run on.\n");
}

/* Beyond a limit, each later allocation would fail. */
static bool memory_unlimited(void)
{
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {0};
        struct rlimit limit;

        if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY)
                return true;
        return syscall(SYS_capget, &head, data) == 0 && data[0].effective & 1U << CAP_IPC_LOCK;
}

/* A host that swaps must still beat. Memory stays from its first use on: locked in full, the stacks of all
 * threads and what libraries set aside would take 200 MB. */
static void memory_lock(void)
{
        if (!memory_unlimited())
                log_warn("hostd: its memory is not locked, so it stands still while the host swaps: set "
                         "LimitMEMLOCK=infinity in its unit");
        else if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
                log_warn("hostd: its memory is not locked: %s", strerror(errno));
}

int main(int argc, char **argv)
{
        static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                                {"debug", no_argument, NULL, 'd'},
                                                {"help", no_argument, NULL, 'h'},
                                                {"version", no_argument, NULL, 'V'},
                                                {0}};
        const char *path = "/etc/wherry/hostd.conf";
        struct config config = {0};
        struct context *ctx = NULL;
        struct err e = {0};
        sigset_t set;
        int o, r;

        while ((o = getopt_long(argc, argv, "c:dhV", options, NULL)) >= 0) {
                switch (o) {
                case 'c':
                        path = optarg;
                        break;
                case 'd':
                        log_level(LOG_DEBUG);
                        break;
                case 'h':
                        help();
                        return 0;
                case 'V':
                        printf("hostd %s\n", WHERRY_VERSION);
                        return 0;
                default:
                        fprintf(stderr, "Try hostd --help.\n");
                        return 2;
                }
        }
        /* Many threads that mostly wait: a second arena would only keep more of what was freed. */
        mallopt(M_ARENA_MAX, 1);
        /* Malloc would raise it as soon as Ceph frees its first large piece. A large table (a store's cache of
         * records) would then be cleared by hand, which takes all its memory; mapped, it takes what is used. */
        mallopt(M_MMAP_THRESHOLD, 128 << 10);
        memory_lock();
        /* Before the first thread, so that all inherit it. */
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
        r = config_load(path, &config, &e);
        if (r == 0)
                r = hostd_new(&config, &ctx, &e);
        if (r == 0)
                r = hostd_run(ctx, &e);
        if (r > 0) /* a newer hostd of this machine has joined: gone at once, as one that was killed */
                _exit(EXIT_SUPERSEDED);
        if (r < 0)
                log_error("hostd: %s", err_text(&e));
        hostd_free(ctx);
        config_done(&config);
        return r < 0 ? 1 : 0;
}
