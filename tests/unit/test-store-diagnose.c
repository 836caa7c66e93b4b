/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/util.h"
#include "imaged/store/files.h"

/* Types and options as kernels print them in /proc/self/mountinfo. */
static void how_far_locks_reach(void **state)
{
        static const struct {
                const char *type, *options;
                enum locks_reach reach;
        } t[] = {
            {"ext4", "rw,errors=remount-ro", LOCKS_LOCAL},
            {"xfs", "rw,attr2,inode64", LOCKS_LOCAL},
            {"tmpfs", "rw,size=1048576k", LOCKS_LOCAL},
            {"overlay", "rw,lowerdir=/l,upperdir=/u,workdir=/w", LOCKS_LOCAL},
            {"nfs4", "rw,vers=4.2,rsize=1048576,proto=tcp,local_lock=none,addr=192.0.2.1", LOCKS_CLUSTER},
            {"nfs", "rw,vers=3,mountproto=udp,local_lock=none,addr=192.0.2.1", LOCKS_CLUSTER},
            {"nfs", "rw,vers=3,nolock,proto=tcp,local_lock=all,addr=192.0.2.1", LOCKS_LOCAL},
            {"nfs", "rw,vers=3,local_lock=posix", LOCKS_LOCAL},
            {"nfs", "rw,vers=3,local_lock=flock", LOCKS_CLUSTER}, /* QEMU's locks are POSIX ones */
            {"cifs", "rw,vers=3.0,cache=strict,nobrl", LOCKS_LOCAL},
            {"cifs", "rw,vers=3.0,cache=strict", LOCKS_CLUSTER},
            {"ceph", "rw,name=admin,secret=<hidden>,acl", LOCKS_CLUSTER},
            {"ocfs2", "rw,_netdev,heartbeat=local,nointr", LOCKS_CLUSTER},
            {"fuse.glusterfs", "rw,user_id=0", LOCKS_CLUSTER},
            {"fuse.sshfs", "rw,user_id=0", LOCKS_UNKNOWN},
            {"9p", "rw,access=client,trans=virtio", LOCKS_UNKNOWN},
            {"virtiofs", "rw", LOCKS_UNKNOWN},
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++)
                if (locks_reach(t[i].type, t[i].options) != t[i].reach)
                        fail_msg("%s %s", t[i].type, t[i].options);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(how_far_locks_reach)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
