/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/util.h"
#include "tests/sim/world.h"

/* The lock driver inside libvirtd: the gate's other end. */
#define ANSWER_NS (30 * SIM_S) /* the lock driver's answer_ms and lock_ms */
#define LOCK_NS (3 * SIM_S)
#define AGAIN_NS (5 * SIM_S) /* lock-driver/ask.c */

struct question {
        struct gate *gate;
        struct gate_request request;
        struct err err;
        int result;
        bool answered;
};

static void question_main(void *arg)
{
        struct question *a = arg;

        a->result = a->gate->cb(a->gate->arg, &a->request, &a->err);
        a->answered = true;
        a->gate->busy--;
        co_wake(&a->gate->busy, true);
        co_wake(a, true);
}

/* One question to the hostd that is there. Returns true when that has died over it. */
static bool ask_once(struct qemu *q, enum gate_question question, bool again, int64_t limit, int *ret,
                     struct err *err)
{
        struct host *h = q->host;
        struct question *a;
        struct proc *hostd = h->hostd;

        if (!hostd || !h->gate)
                return false;
        a = calloc(1, sizeof(*a)); /* outlives this wait */
        assert(a);
        a->gate = h->gate;
        a->request = (struct gate_request){
            .question = question, .lease = q->lease, .pid = q->pid, .asked_ns = clock_ns(), .again = again};
        h->gate->busy++;
        co_spawn(hostd, question_main, a);
        while (!a->answered && h->hostd == hostd && sched_now() < limit)
                co_wait(a, MIN_OF(limit, sched_now() + 200 * SIM_MS));
        if (a->answered && h->hostd == hostd) {
                *ret = a->result;
                if (err)
                        *err = a->err;
        }
        return h->hostd != hostd;
}

/* No answer is a no: no hostd, one that takes too long, or one that dies over the question and has no
 * successor soon. */
void libvirt_ask(struct qemu *q, enum gate_question question, int *ret, struct err *err)
{
        int64_t limit = sched_now() + (question == GATE_RELEASE ? SIM_S : ANSWER_NS);
        bool died;

        *ret = 0;
        if (W.broken == BREAK_GATE)
                return;
        *ret = err_set(err, -ECONNREFUSED, "hostd does not answer");
        q->asking = true;
        died = ask_once(q, question, false, limit, ret, err);
        if (died && question == GATE_ACQUIRE) {
                limit = MIN_OF(limit, sched_now() + AGAIN_NS);
                W.stats.again++;
                do {
                        co_sleep(20 * SIM_MS);
                        died = !q->host->hostd || !q->host->gate ||
                               ask_once(q, question, true, limit, ret, err);
                } while (died && sched_now() < limit);
        }
        q->asking = false;
        co_wake(&q->asking, true);
}

bool libvirt_may_run(struct qemu *q, struct proc *asker)
{
        int64_t limit = sched_now() + LOCK_NS;
        bool fresh = false;
        struct err e = {0};
        int r;

        if (W.kind == FENCE_DIR && W.broken != BREAK_LOCK) {
                while (q->disk->second_locked && q->disk->second_locked != q && sched_now() < limit)
                        co_sleep(10 * SIM_MS);
                if (!q->alive || (q->disk->second_locked && q->disk->second_locked != q))
                        return false;
                fresh = !q->disk->second_locked;
                q->disk->second_locked = q;
        }
        if (!q->alive)
                return false;
        q->asked = true;
        libvirt_ask(q, GATE_ACQUIRE, &r, &e);
        if (r < 0 && fresh && q->disk->second_locked == q)
                q->disk->second_locked = NULL;
        tell("%s: may QEMU %d on %s run: %s", q->disk->id, (int)q->pid, q->host->name,
             r == 0 ? "yes" : err_text(&e));
        if (r == 0 && q->phase == QEMU_INCOMING)
                disk_arrived(q->disk, q);
        return r == 0 && q->alive;
}
