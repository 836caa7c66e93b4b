/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "imaged/store/files.h"
#include "imaged/store/fs-nfs.h"

/*
 * Servers that let in only ports below 1024 (a kernel export without "insecure", ganesha's PrivilegedPort)
 * let imaged and hostd in, which are root, but not QEMU, which is not. So somebody without that right has to
 * try: a thread that gives up the capability to bind such ports, which concerns that thread alone.
 */
struct knock {
        struct fs_nfs *nfs;
        bool tried; /* as an unprivileged one */
        int r;
        struct err err;
};

static bool give_up_ports(void)
{
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {0};

        if (syscall(SYS_capget, &head, caps) < 0)
                return false;
        caps[CAP_TO_INDEX(CAP_NET_BIND_SERVICE)].effective &= ~CAP_TO_MASK(CAP_NET_BIND_SERVICE);
        return syscall(SYS_capset, &head, caps) == 0;
}

static void *knock_run(void *arg)
{
        struct knock *k = arg;
        struct nfs_server *server = NULL;
        struct nfs_conn *conn = NULL;
        struct fs_attr attr;

        k->tried = give_up_ports();
        if (!k->tried)
                return NULL;
        k->r = nfs_server_new(k->nfs->server, k->nfs->path, nfs_server_timeout_ms(k->nfs->conns), &server,
                              &k->err);
        if (k->r == 0)
                k->r = nfs_conn_new(server, 0, 0, &conn, &k->err);
        if (k->r == 0)
                k->r = nfs3_getattr(conn, nfs_server_root(server), &attr);
        nfs_conn_free(conn);
        nfs_server_free(server);
        return NULL;
}

int files_diagnose_nfs(struct store *s, bool many_machines, store_finding_cb cb, void *arg, struct err *err)
{
        struct fs *fs = files_of(s)->fs;
        struct knock k = {.nfs = nfs_of(fs)};
        _cleanup_(freep) char *text = NULL;
        struct store_finding f = {
            .code = "privileged-port",
            .advice = "add \"insecure\" to the export's options (nfs-ganesha: PrivilegedPort = false)"};
        pthread_t thread;
        uint64_t total, left;
        int r;

        (void)many_machines;
        r = fs->ops->space(fs, &total, &left, err); /* that it answers root at all */
        if (r < 0)
                return r;
        r = -pthread_create(&thread, NULL, knock_run, &k);
        if (r < 0)
                return err_set(err, r, "cannot start a thread: %s", strerror(-r));
        pthread_join(thread, NULL);
        if (!k.tried || k.r >= 0)
                return 0;
        text = str_printf("%s does not answer a client whose port is above 1023 (%s), and QEMU is no root: "
                          "no guest could open its disk",
                          s->url, k.err.code ? err_text(&k.err) : strerror(-k.r));
        f.text = text;
        return text ? cb(arg, &f) : err_set(err, -ENOMEM, "out of memory");
}
