/* SPDX-License-Identifier: Apache-2.0 */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/system/virt/lab.h"
#include "tests/system/virt/stories.h"

#define MANY 8            /* libvirtd works on five calls of a client at the same time */
#define LONG_ENOUGH 35000 /* ms; libvirtd takes a client for lost that has not answered it for 30 s */

struct many {
        struct guest guests[MANY];
        struct {
                struct guest *guest;
                struct err err;
                pthread_t thread, stopper;
                atomic_int result; /* 1: under way */
                pid_t arrived;     /* the destination's QEMU */
        } moves[MANY];
};

static int many_hook(struct lab *l, int host, const struct gate_request *req, struct err *err)
{
        struct many *m = l->hook_arg;

        for (int i = 0; req->question == GATE_ACQUIRE && i < MANY; i++)
                if (streq(m->guests[i].id, req->lease.instance))
                        guest_claim(&m->guests[i], host);
        return 0;
}

static void *move_run(void *arg)
{
        __typeof__(((struct many *)0)->moves[0]) *move = arg;

        move->result = guest_move(move->guest, 1, 2, NULL, &move->err);
        return NULL;
}

/* A destination's QEMU that stands still keeps libvirt's call at the source as long as we like. */
static void *stop_run(void *arg)
{
        __typeof__(((struct many *)0)->moves[0]) *move = arg;

        while (move->result > 0 && (move->arrived = qemu_pid(2, move->guest->id)) == 0)
                usleep(5000);
        if (move->arrived)
                kill(move->arrived, SIGSTOP);
        return NULL;
}

void eight_long_moves_leave_the_connection_alive(void **state)
{
        static struct many m;
        struct virt_domain d;
        struct err err = {0};
        char name[16];
        int under_way = 0, seen = 0;
        bool lost;

        lab_reset(NULL, NULL);
        for (int i = 0; i < MANY; i++) {
                snprintf(name, sizeof name, "many%d", i);
                guest_make(&m.guests[i], name);
                m.moves[i].guest = &m.guests[i];
                m.moves[i].result = 1;
                assert_ok(guest_start(&m.guests[i], 1, &err), &err);
        }
        lab_reset(many_hook, &m);
        for (int i = 0; i < MANY; i++) {
                assert_int_equal(pthread_create(&m.moves[i].thread, NULL, move_run, &m.moves[i]), 0);
                assert_int_equal(pthread_create(&m.moves[i].stopper, NULL, stop_run, &m.moves[i]), 0);
        }
        lost = mark_wait(0, MARK_EVENT, 1, VIRT_DISCONNECTED, NULL, LONG_ENOUGH) >= 0;
        for (int i = 0; i < MANY; i++) {
                under_way += m.moves[i].result > 0;
                seen += virt_find(lab->hosts[1].virt, m.guests[i].id, &d, &err) == 0;
        }
        for (int i = 0; i < MANY; i++) {
                pthread_join(m.moves[i].stopper, NULL);
                kill(m.moves[i].arrived, SIGCONT);
        }
        for (int i = 0; i < MANY; i++)
                pthread_join(m.moves[i].thread, NULL);
        if (lost)
                fail_msg("the connection to libvirtd was lost");
        assert_int_equal(under_way, MANY);
        assert_int_equal(seen, MANY);
        for (int i = 0; i < MANY; i++) {
                assert_ok(m.moves[i].result, &m.moves[i].err);
                assert_true(guest_ticks(&m.guests[i], 2, 3, 15000));
        }
        lab_kill_all();
        for (int i = 0; i < MANY; i++)
                guest_remove(&m.guests[i]);
}
