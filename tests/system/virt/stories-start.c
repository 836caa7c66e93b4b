/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/system/virt/lab.h"
#include "tests/system/virt/stories.h"

static int say_no(struct lab *l, int host, const struct gate_request *req, struct err *err)
{
        return req->question == GATE_ACQUIRE
                   ? err_set(err, -EACCES, "instance %s lives elsewhere", req->lease.instance)
                   : 0;
}

void libvirtd_without_the_driver_is_refused(void **state)
{
        struct virt_options o = {lab->hosts[1].uri, "another.so", NULL, NULL};
        struct err err = {0};
        struct virt *v = NULL;

        assert_int_equal(virt_new(&o, &v, &err), -ENOEXEC);
        assert_non_null(strstr(err_text(&err), "lock_manager = \"another\""));
}

void host_says_what_it_has(void **state)
{
        struct virt_host h = {0};
        struct err err = {0};

        assert_ok(virt_host(lab->hosts[1].virt, &h, &err), &err);
        printf("    %u cores, %llu MiB, CPU \"%s\", libvirt %s, QEMU %s, kvm %d\n", h.cpus,
               (unsigned long long)(h.memory >> 20), h.cpu_model, h.libvirt, h.qemu, h.kvm);
        assert_true(h.cpus > 0 && h.memory > 64 << 20 && h.libvirt[0] && h.qemu[0]);
        assert_int_equal(virt_shutdown(lab->hosts[1].virt, "00000000-0000-4000-8000-000000000000", &err),
                         -ENOENT);
}

void guest_starts_when_the_gate_says_yes(void **state)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        struct guest g;
        struct err err = {0};
        int64_t begin;
        size_t n = 0;
        int registered, acquired, resumed;

        lab_reset(NULL, NULL);
        guest_make(&g, "two-disks");
        assert_ok(guest_start(&g, 1, &err),
                  &err); /* the first lets libvirt look at QEMU, which it remembers */
        assert_ok(virt_kill(lab->hosts[1].virt, g.id, &err), &err);
        guest_remove(&g);
        guest_make(&g, "two-disks");
        g.extra = 2;
        lab_reset(NULL, NULL);
        begin = clock_ns();
        assert_ok(guest_start(&g, 1, &err), &err);
        printf("    MEASURED create: %.0f ms\n", (double)(clock_ns() - begin) / 1e6);

        registered = mark_wait(0, MARK_QUESTION, 1, GATE_REGISTER, NULL, 0);
        acquired = mark_wait(0, MARK_QUESTION, 1, GATE_ACQUIRE, NULL, 0);
        resumed = mark_wait(0, MARK_EVENT, 1, VIRT_STARTED, "booted", 2000);
        marks_print();
        assert_true(registered >= 0 && acquired > registered && resumed >= 0);
        assert_int_equal(mark_count(MARK_QUESTION, 1, GATE_ACQUIRE), 1); /* one answer for all three disks */
        assert_int_equal(lab->marks[acquired].pid, qemu_pid(1, g.id));
        assert_int_equal(qemu_pid(2, g.id), 0);
        assert_true(guest_ticks(&g, 1, 5, 15000));

        assert_ok(virt_list(lab->hosts[1].virt, &list, &n, &err), &err);
        assert_int_equal(n, 1);
        assert_true(list[0].running && !list[0].job);
        assert_memory_equal(&list[0].lease, &g.lease[1], sizeof g.lease[1]);
        assert_string_equal(list[0].reason, "booted");
        assert_int_equal(
            shell(NULL, 0, "test $(stat -c %%U /proc/%d) = %s", (int)qemu_pid(1, g.id), lab->user), 0);
        /* libvirt gave no disk to QEMU's user, nor took one. */
        assert_int_equal(shell(NULL, 0, "test $(stat -c %%U:%%a %s/store/two-disks.e1.h1/disk2) = %s:600",
                               lab->folder, lab->user),
                         0);
        assert_ok(virt_kill(lab->hosts[1].virt, g.id, &err), &err);
        assert_true(mark_wait(0, MARK_EVENT, 1, VIRT_STOPPED, "destroyed", 2000) >= 0);
        assert_ok(virt_kill(lab->hosts[1].virt, g.id, &err), &err); /* not there: fine */
        guest_remove(&g);
}

void virsh_start_behind_our_back_is_refused_with_our_reason(void **state)
{
        _cleanup_(freep) char *xml = NULL;
        struct guest g;
        struct err err = {0};
        char out[2048], path[300];

        lab_reset(say_no, NULL);
        guest_make(&g, "behind");
        guest_claim(&g, 1);
        xml = guest_xml(&g, 1);
        snprintf(path, sizeof path, "%s/behind.xml", lab->folder);
        assert_ok(file_write(path, xml, strlen(xml), 0600, &err), &err);

        assert_int_not_equal(shell(out, sizeof out, "virsh -c '%s' create %s 2>&1", lab->hosts[1].uri, path),
                             0);
        printf("%s", out);
        snprintf(path, sizeof path, "wherry: instance %s lives elsewhere", g.id);
        assert_non_null(strstr(out, path));
        /* A definition with autostart is no way round it either. */
        assert_int_equal(
            shell(NULL, 0, "virsh -c '%s' define %s/behind.xml 2>&1", lab->hosts[1].uri, lab->folder), 0);
        assert_int_not_equal(
            shell(out, sizeof out, "virsh -c '%s' start wherry-behind 2>&1", lab->hosts[1].uri), 0);
        assert_non_null(strstr(out, "wherry: instance"));
        assert_int_equal(shell(NULL, 0, "virsh -c '%s' undefine wherry-behind 2>&1", lab->hosts[1].uri), 0);
        qemu_wait(1, g.id, false, 5000);

        /* And through our own call: the code says that it was the gate. */
        assert_int_equal(virt_start(lab->hosts[1].virt, xml, &err), -EACCES);
        assert_non_null(strstr(err_text(&err), "wherry: instance"));
        guest_remove(&g);
}

void pause_releases_and_resume_asks_again(void **state)
{
        struct guest g;
        struct err err = {0};
        char out[1024];

        lab_reset(NULL, NULL);
        guest_make(&g, "pause");
        assert_ok(guest_start(&g, 1, &err), &err);
        assert_int_equal(shell(NULL, 0, "virsh -c '%s' suspend wherry-pause", lab->hosts[1].uri), 0);
        assert_true(mark_wait(0, MARK_QUESTION, 1, GATE_RELEASE, NULL, 2000) >= 0);
        assert_true(mark_wait(0, MARK_EVENT, 1, VIRT_SUSPENDED, "paused", 2000) >= 0);

        lab_reset(say_no, NULL);
        assert_int_not_equal(
            shell(out, sizeof out, "virsh -c '%s' resume wherry-pause 2>&1", lab->hosts[1].uri), 0);
        assert_non_null(strstr(out, "lives elsewhere"));
        assert_int_equal(virt_resume(lab->hosts[1].virt, g.id, &err), -EACCES);
        assert_int_equal(mark_wait(0, MARK_EVENT, 1, VIRT_RESUMED, NULL, 200), -1);

        lab_reset(NULL, NULL);
        assert_ok(virt_resume(lab->hosts[1].virt, g.id, &err), &err);
        assert_true(mark_wait(0, MARK_EVENT, 1, VIRT_RESUMED, "unpaused", 2000) >= 0);
        assert_ok(virt_kill(lab->hosts[1].virt, g.id, &err), &err);
        guest_remove(&g);
}

void guests_of_others_are_let_through(void **state)
{
        static const char xml[] =
            "<domain type='qemu'><name>theirs</name><memory unit='MiB'>32</memory><os><type "
            "arch='x86_64' machine='q35'>hvm</type></os></domain>";
        _cleanup_(freep) struct virt_domain *list = NULL;
        struct err err = {0};
        size_t n = 7;

        lab_reset(say_no, NULL);
        assert_ok(virt_start(lab->hosts[1].virt, xml, &err), &err);
        assert_int_equal(mark_count(MARK_QUESTION, 1, GATE_REGISTER), 0);
        assert_ok(virt_list(lab->hosts[1].virt, &list, &n, &err), &err);
        assert_int_equal(n, 0); /* nor listed as ours */
        assert_int_equal(shell(NULL, 0, "virsh -c '%s' destroy theirs", lab->hosts[1].uri), 0);
}

/* hostd hangs: no answer until the test lets go of it. */
static int say_nothing(struct lab *l, int host, const struct gate_request *req, struct err *err)
{
        if (req->question == GATE_ACQUIRE)
                sem_wait(l->hook_arg);
        return 0;
}

void no_hostd_means_no(void **state)
{
        struct guest g;
        struct err err = {0};
        sem_t answer;

        lab_reset(NULL, NULL);
        guest_make(&g, "nohostd");
        gate_close(1);
        assert_int_equal(guest_start(&g, 1, &err), -EACCES);
        assert_non_null(strstr(err_text(&err), "no answer from hostd"));
        gate_open(1);

        sem_init(&answer, 0, 0);
        lab_reset(say_nothing, &answer);
        assert_int_equal(guest_start(&g, 1, &err), -EACCES);
        assert_non_null(strstr(err_text(&err), "timed out"));
        sem_post(&answer); /* too late: it was taken for a no, and stays one */
        assert_true(mark_wait(0, MARK_QUESTION, 1, GATE_ACQUIRE, NULL, 5000) >= 0);
        qemu_wait(1, g.id, false, 5000);
        guest_remove(&g);
}

void guest_that_powers_off_tells_so(void **state)
{
        struct guest g;
        struct err err = {0};

        lab_reset(NULL, NULL);
        guest_make(&g, "poweroff");
        assert_ok(guest_start(&g, 2, &err), &err);
        assert_true(guest_ticks(&g, 2, 3, 15000));
        assert_ok(virt_shutdown(lab->hosts[2].virt, g.id, &err),
                  &err); /* this guest does not hear its power button */
        assert_int_equal(guest_type(&g, 2, "q"), 0);
        assert_true(mark_wait(0, MARK_EVENT, 2, VIRT_SHUTDOWN, "guest", 5000) >= 0);
        assert_true(mark_wait(0, MARK_EVENT, 2, VIRT_STOPPED, "shutdown", 5000) >= 0);
        qemu_wait(2, g.id, false, 5000);
        guest_remove(&g);
}

void answer_comes_from_the_lease_of_the_same_guest(void **state)
{
        _cleanup_(freep) char *xml = NULL;
        struct guest g;
        struct err err = {0};
        char *uuid;

        lab_reset(NULL, NULL);
        guest_make(&g, "stolen");
        guest_claim(&g, 1);
        xml = guest_xml(&g, 1);
        uuid = strstr(xml, "<uuid>") + strlen("<uuid>");
        uuid[0] = uuid[0] == 'a' ? 'b' : 'a';
        assert_int_equal(virt_start(lab->hosts[1].virt, xml, &err), -EACCES);
        assert_non_null(strstr(err_text(&err), "carries the lease of instance"));
        assert_int_equal(mark_count(MARK_QUESTION, 1, GATE_REGISTER), 0);
        guest_remove(&g);
}

void killed_qemu_is_seen_and_gone(void **state)
{
        struct guest g;
        struct err err = {0};
        pid_t pid;

        lab_reset(NULL, NULL);
        guest_make(&g, "killed");
        assert_ok(guest_start(&g, 1, &err), &err);
        pid = qemu_pid(1, g.id);
        assert_true(pid > 0);
        assert_int_equal(
            virt_kill_pid(lab->hosts[1].virt, pid, "00000000-0000-4000-8000-000000000000", &err), -ESRCH);
        assert_int_equal(qemu_pid(1, g.id), pid);
        assert_ok(virt_kill_pid(lab->hosts[1].virt, pid, g.id, &err), &err);
        assert_int_equal(qemu_pid(1, g.id), 0);
        assert_ok(virt_kill_pid(lab->hosts[1].virt, pid, g.id, &err), &err); /* gone: fine */
        assert_true(mark_wait(0, MARK_EVENT, 1, VIRT_STOPPED, NULL, 3000) >= 0);
        guest_remove(&g);
}
