/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/system/virt/lab.h"
#include "tests/system/virt/stories.h"

/* The second lock as another libvirtd would take it: an open file description, or -1 while it is held. */
static int second_lock(const struct guest *g)
{
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(g->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        if (fcntl(fd, F_OFD_SETLK, &l) == 0)
                return fd;
        close(fd);
        return -1;
}

static void assert_free_within(const struct guest *g, int ms)
{
        int64_t deadline = clock_ms() + ms;
        int fd;

        while ((fd = second_lock(g)) < 0) {
                if (clock_ms() > deadline)
                        fail_msg("the second lock is still held after %d ms", ms);
                usleep(5000);
        }
        close(fd);
}

void start_waits_for_the_second_lock_and_gives_up(void **state)
{
        struct guest g;
        struct err err = {0};
        int fd;

        lab_reset(NULL, NULL);
        guest_make(&g, "lock");
        fd = second_lock(&g);
        assert_true(fd >= 0);
        assert_int_equal(guest_start(&g, 1, &err), -EACCES);
        assert_non_null(strstr(err_text(&err), "still locked"));
        assert_int_equal(mark_count(MARK_QUESTION, 1, GATE_ACQUIRE), 0); /* hostd was not even asked */
        close(fd);

        assert_ok(guest_start(&g, 1, &err), &err);
        assert_int_equal(second_lock(&g), -1);
        /* Paused: given back, so that a migration's destination can take it; resumed: taken again. */
        assert_int_equal(shell(NULL, 0, "virsh -c '%s' suspend wherry-lock", lab->hosts[1].uri), 0);
        assert_free_within(&g, 0);
        assert_ok(virt_resume(lab->hosts[1].virt, g.id, &err), &err);
        assert_int_equal(second_lock(&g), -1);
        assert_ok(virt_kill(lab->hosts[1].virt, g.id, &err), &err);
        assert_free_within(&g, 1000);
        guest_remove(&g);
}

static int refuse(struct lab *l, int host, const struct gate_request *req, struct err *err)
{
        return req->question == GATE_ACQUIRE ? err_set(err, -EACCES, "no") : 0;
}

void second_lock_ends_with_its_qemu(void **state)
{
        struct guest g;
        struct err err = {0};

        /* A no gives it back at once. */
        lab_reset(refuse, NULL);
        guest_make(&g, "lockqemu");
        assert_int_equal(guest_start(&g, 1, &err), -EACCES);
        assert_free_within(&g, 0);

        lab_reset(NULL, NULL);
        assert_ok(guest_start(&g, 1, &err), &err);
        assert_int_equal(second_lock(&g), -1);
        assert_ok(virt_kill_pid(lab->hosts[1].virt, qemu_pid(1, g.id), g.id, &err), &err);
        assert_free_within(&g, 500);
        guest_remove(&g);
}

void second_lock_ends_with_libvirtd(void **state)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        struct guest g;
        struct err err = {0};
        size_t n = 0;

        lab_reset(NULL, NULL);
        guest_make(&g, "lockdaemon");
        assert_ok(guest_start(&g, 1, &err), &err);
        assert_int_equal(second_lock(&g), -1);
        libvirtd_kill(1);
        assert_free_within(&g, 500);
        assert_true(mark_wait(0, MARK_EVENT, 1, VIRT_DISCONNECTED, NULL, 5000) >= 0);
        assert_int_equal(virt_list(lab->hosts[1].virt, &list, &n, &err), -ENOTCONN);

        /* QEMU lives on, and everything is found again. */
        assert_true(qemu_pid(1, g.id) > 0);
        libvirtd_start(1);
        assert_ok(virt_list(lab->hosts[1].virt, &list, &n, &err), &err);
        assert_int_equal(n, 1);
        assert_true(list[0].running);
        assert_true(guest_ticks(&g, 1, 2, 5000));
        assert_ok(virt_kill(lab->hosts[1].virt, g.id, &err), &err);
        assert_true(mark_wait(0, MARK_EVENT, 1, VIRT_STOPPED, "destroyed", 2000) >= 0);
        guest_remove(&g);
}
