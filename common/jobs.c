/* SPDX-License-Identifier: Apache-2.0 */
#include "common/jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/util.h"

struct job {
        void (*work)(void *arg);
        void (*done)(void *arg);
        void *arg;
        struct job *next;
};

struct queue {
        struct job *head, **tail;
};

struct jobs {
        int fd;
        unsigned n_workers;
        pthread_t *workers;

        pthread_mutex_t lock; /* over what follows */
        pthread_cond_t more;
        struct queue waiting, ended;
        bool stopping;
};

static void queue_push(struct queue *q, struct job *j)
{
        j->next = NULL;
        *q->tail = j;
        q->tail = &j->next;
}

static struct job *queue_pop(struct queue *q)
{
        struct job *j = q->head;

        if (j) {
                q->head = j->next;
                if (!q->head)
                        q->tail = &q->head;
        }
        return j;
}

static void wake(struct jobs *j)
{
        uint64_t one = 1;

        (void)!write(j->fd, &one, sizeof(one)); /* full: it is readable anyway */
}

static void *worker(void *arg)
{
        struct jobs *j = arg;

        pthread_mutex_lock(&j->lock);
        for (;;) {
                struct job *job;

                while (!j->stopping && !j->waiting.head)
                        pthread_cond_wait(&j->more, &j->lock);
                if (j->stopping)
                        break;
                job = queue_pop(&j->waiting);
                pthread_mutex_unlock(&j->lock);
                job->work(job->arg);
                pthread_mutex_lock(&j->lock);
                queue_push(&j->ended, job);
                wake(j);
        }
        pthread_mutex_unlock(&j->lock);
        return NULL;
}

int jobs_new(unsigned n_workers, struct jobs **ret, struct err *err)
{
        struct jobs *j = calloc(1, sizeof(*j));

        if (!j)
                return err_set(err, -ENOMEM, "out of memory");
        pthread_mutex_init(&j->lock, NULL);
        pthread_cond_init(&j->more, NULL);
        j->waiting.tail = &j->waiting.head;
        j->ended.tail = &j->ended.head;
        j->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        j->workers = calloc(n_workers ? n_workers : 1, sizeof(*j->workers));
        if (j->fd < 0 || !j->workers) {
                int r = j->fd < 0 ? -errno : -ENOMEM;

                jobs_free(j);
                return err_set(err, r, "worker threads: %s", strerror(-r));
        }
        while (j->n_workers < n_workers) {
                int r = pthread_create(&j->workers[j->n_workers], NULL, worker, j);

                if (r != 0) {
                        jobs_free(j);
                        return err_set(err, -r, "worker thread %u of %u: %s", j->n_workers + 1, n_workers,
                                       strerror(r));
                }
                j->n_workers++;
        }
        *ret = j;
        return 0;
}

int jobs_fd(struct jobs *j)
{
        return j->fd;
}

int jobs_add(struct jobs *j, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
        struct job *job = calloc(1, sizeof(*job));

        if (!job)
                return -ENOMEM;
        *job = (struct job){.work = work, .done = done, .arg = arg};
        pthread_mutex_lock(&j->lock);
        queue_push(&j->waiting, job);
        pthread_cond_signal(&j->more);
        pthread_mutex_unlock(&j->lock);
        return 0;
}

/* Without the lock while done() runs: it may add jobs. */
static void collect(struct jobs *j, struct queue *q)
{
        for (;;) {
                struct job *job;

                pthread_mutex_lock(&j->lock);
                job = queue_pop(q);
                pthread_mutex_unlock(&j->lock);
                if (!job)
                        return;
                if (job->done)
                        job->done(job->arg);
                free(job);
        }
}

void jobs_collect(struct jobs *j)
{
        uint64_t count;

        (void)!read(j->fd, &count, sizeof(count)); /* before the look: what ends after it wakes again */
        collect(j, &j->ended);
}

struct jobs *jobs_free(struct jobs *j)
{
        if (!j)
                return NULL;
        pthread_mutex_lock(&j->lock);
        j->stopping = true;
        pthread_cond_broadcast(&j->more);
        pthread_mutex_unlock(&j->lock);
        for (unsigned i = 0; i < j->n_workers; i++)
                pthread_join(j->workers[i], NULL);
        if (j->workers) {
                collect(j, &j->ended);
                collect(j, &j->waiting);
        }
        if (j->fd >= 0)
                close(j->fd);
        pthread_cond_destroy(&j->more);
        pthread_mutex_destroy(&j->lock);
        free(j->workers);
        free(j);
        return NULL;
}
