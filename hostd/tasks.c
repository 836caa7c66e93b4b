/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/tasks.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define THREAD_STACK (512 * 1024)

struct tasks {
        pthread_mutex_t lock;
        pthread_cond_t ended;
        unsigned running;
};

struct task {
        struct tasks *tasks;
        void (*run)(void *arg);
        void *arg;
};

int tasks_new(struct tasks **ret)
{
        struct tasks *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->ended, NULL);
        *ret = t;
        return 0;
}

struct tasks *tasks_free(struct tasks *t)
{
        if (!t)
                return NULL;
        pthread_mutex_lock(&t->lock);
        while (t->running > 0)
                pthread_cond_wait(&t->ended, &t->lock);
        pthread_mutex_unlock(&t->lock);
        pthread_cond_destroy(&t->ended);
        pthread_mutex_destroy(&t->lock);
        free(t);
        return NULL;
}

static void task_end(struct tasks *t)
{
        pthread_mutex_lock(&t->lock);
        t->running--;
        pthread_cond_broadcast(&t->ended);
        pthread_mutex_unlock(&t->lock);
}

static void *task_main(void *arg)
{
        struct task task = *(struct task *)arg;

        free(arg);
        task.run(task.arg);
        task_end(task.tasks);
        return NULL;
}

int task_spawn(struct tasks *t, void (*run)(void *arg), void *arg)
{
        struct task *task = malloc(sizeof(*task));
        pthread_attr_t attr;
        pthread_t thread;
        int r;

        if (!task)
                return -ENOMEM;
        *task = (struct task){.tasks = t, .run = run, .arg = arg};
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attr, THREAD_STACK);
        pthread_mutex_lock(&t->lock);
        t->running++;
        pthread_mutex_unlock(&t->lock);
        r = -pthread_create(&thread, &attr, task_main, task);
        pthread_attr_destroy(&attr);
        if (r < 0) {
                task_end(t);
                free(task);
        }
        return r;
}
