/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/util.h"
#include "hostd/gate-socket.h"
#include "hostd/virt/virt.h"

/* Two hosts with a libvirtd each, one shared folder, and a record of everything that libvirt asked or told.
 */

#define HOSTS 2

enum mark_kind { MARK_QUESTION, MARK_EVENT };
struct mark {
        enum mark_kind kind;
        int host; /* 1, 2 */
        int what; /* enum gate_question or enum virt_event_kind */
        pid_t pid;
        int64_t ns;
        char instance[UUID_LEN + 1], detail[32];
        bool yes;
};

struct lab;
struct lab_host {
        struct lab *lab;
        int number;
        char uri[256], gate_path[256];
        struct virt *virt;
        struct gate *gate;
};

/* Asked at the gate before the answer; returns as gate_cb does. */
typedef int (*lab_hook)(struct lab *lab, int host, const struct gate_request *req, struct err *err);

struct lab {
        char folder[64], user[32];
        struct lab_host hosts[HOSTS + 1]; /* from 1 */
        pthread_mutex_t lock;             /* guards the rest */
        pthread_cond_t changed;
        struct mark marks[512];
        size_t n_marks;
        lab_hook hook;
        void *hook_arg;
};
extern struct lab *lab; /* of this test program */

void lab_open(const char *folder, const char *user);
void lab_close(void);
void lab_reset(lab_hook hook, void *arg); /* forgets the marks; hook NULL: yes to everything */
/* Every guest of ours ended, on both hosts. */
void lab_kill_all(void);

void gate_open(int host);
void gate_close(int host);

/* The index of the first mark from `from` on that fits (instance may be NULL, detail too), waiting up to ms;
 * -1. */
int mark_wait(size_t from, enum mark_kind kind, int host, int what, const char *detail, int ms);
int mark_count(enum mark_kind kind, int host, int what);
size_t marks_now(void);
void marks_print(void);

void libvirtd_kill(int host);
void libvirtd_start(int host);                  /* and waits until the connection is back */
pid_t qemu_pid(int host, const char *instance); /* 0: none; from /proc, as that host sees it */
int qemu_unread(int host);                      /* how many processes of that host cannot be told */
void qemu_wait(int host, const char *instance, bool there, int ms);

/* An instance on the shared folder, laid out as the directory engine does: a folder with the name and the
 * epoch, and a link for each QEMU start. */
struct guest {
        char id[UUID_LEN + 1], name[16], lock_path[300];
        uint64_t epoch;
        int owner;
        struct domain_lease lease[HOSTS + 1]; /* what each host's QEMU was started with */
        bool direct;                          /* the domain names the folder itself, without a link */
        bool qmp;                             /* a monitor of our own beside libvirt's */
        unsigned extra;                       /* further disks */
        bool screen_on_tcp;                   /* as a hostd before Unix sockets has started it */
};
void guest_make(struct guest *g, const char *name);
void guest_remove(struct guest *g);
void guest_claim(struct guest *g, int host); /* rename to the next epoch, point that host's link to it */
char *guest_xml(struct guest *g, int host);
int guest_start(struct guest *g, int host, struct err *err);
int guest_move(struct guest *g, int from, int to, struct virt_progress *ret, struct err *err);
/* Whether `n` dots come over the serial line in ms: the vCPUs run and the disk takes their writes. */
bool guest_ticks(struct guest *g, int host, int n, int ms);
/* Types text on the serial console and waits for the console's end. */
int guest_type(struct guest *g, int host, const char *text);
/* Asks that host's QEMU over the monitor of our own for the member `key` of `command`'s answer; "" where
 * there is none. */
void guest_query(struct guest *g, int host, const char *command, const char *key, char ret[32]);

/* Runs a command, its output in out; the exit status. */
int shell(char *out, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define assert_ok(call, e)                                                                                  \
        do {                                                                                                \
                int assert_ok_ = (call);                                                                    \
                if (assert_ok_ < 0)                                                                         \
                        fail_msg("%s: %s", #call, err_text(e));                                             \
        } while (0)
