/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/util.h"
#include "hostd/gate-socket.h"
#include "hostd/lock-driver/driver.h"

/* Both ends of the gate: hostd's socket and what the lock driver does inside libvirtd, without libvirt. */

#define A "11111111-2222-4333-8444-555555555555"
#define B "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
#define KEY A ":5:" B ":1:2:-"

/* The driver's clock; it may go faster than the others. */
static int64_t hurry_ms, hurried_ms; /* for each time that it is read; in all */

int64_t now_ms(void)
{
        hurried_ms += hurry_ms;
        return clock_ms() + hurried_ms;
}

static uid_t asker; /* as whom the other end appears; 0 and this process's own user may ask */

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len)
{
        struct ucred *peer = value;

        assert_int_equal(option, SO_PEERCRED);
        *peer = (struct ucred){.pid = 1, .uid = asker};
        return 0;
}

struct fixture {
        char folder[64], socket[128];
        struct gate *gate;
        pthread_mutex_t lock;
        struct gate_request last;
        unsigned asked;
        int answer; /* what the callback returns */
        unsigned sleep_ms;
};

static int on_question(void *arg, const struct gate_request *req, struct err *err)
{
        struct fixture *f = arg;
        struct timespec pause = {.tv_nsec = (long)f->sleep_ms * 1000000L};

        pthread_mutex_lock(&f->lock);
        f->last = *req;
        f->asked++;
        pthread_mutex_unlock(&f->lock);
        nanosleep(&pause, NULL);
        return f->answer < 0 ? err_set(err, f->answer, "epoch %d has passed", 5) : 0;
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);
        struct err err = {0};

        assert_non_null(f);
        asker = geteuid();
        strcpy(f->folder, "/tmp/wherry-gate.XXXXXX");
        assert_non_null(mkdtemp(f->folder));
        snprintf(f->socket, sizeof f->socket, "%s/gate.sock", f->folder);
        pthread_mutex_init(&f->lock, NULL);
        assert_int_equal(gate_new(f->socket, on_question, f, &f->gate, &err), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        char path[160];

        f->gate = gate_free(f->gate);
        unlink(f->socket);
        snprintf(path, sizeof path, "%s/lock", f->folder);
        unlink(path);
        snprintf(path, sizeof path, "%s/conf", f->folder);
        unlink(path);
        rmdir(f->folder);
        free(f);
        return 0;
}

static void question_arrives_whole_and_yes_comes_back(void **state)
{
        static const char *const names[] = {"REGISTER", "ACQUIRE", "RELEASE"};
        struct fixture *f = *state;
        char reason[REASON_LEN];

        for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
                assert_int_equal(gate_ask(f->socket, names[i], A, 4711, KEY, 2000, reason), 0);
                assert_int_equal(f->last.question, i);
                assert_int_equal(f->last.pid, 4711);
                assert_string_equal(f->last.lease.instance, A);
                assert_int_equal(f->last.lease.epoch, 5);
                assert_string_equal(f->last.lease.start.id, B);
                assert_int_equal(f->last.lease.start.gid, 2);
                assert_string_equal(f->last.lease.attempt, "");
        }
}

static void no_comes_with_its_reason(void **state)
{
        struct fixture *f = *state;
        char reason[REASON_LEN];

        f->answer = -ESTALE;
        assert_int_equal(gate_ask(f->socket, "ACQUIRE", A, 1, KEY, 2000, reason), -1);
        assert_string_equal(reason, "epoch 5 has passed");
}

static void malformed_questions_are_a_no_without_asking(void **state)
{
        static const char *const bad[][3] = {
            {"ACQUIRE", B, KEY},              /* another guest's lease */
            {"ACQUIRE", A, "nonsense"},       /* no lease */
            {"ACQUIRES", A, KEY},             /* no such question */
            {"ACQUIRE", A, A ":5:" B ":1:2"}, /* cut off */
        };
        struct fixture *f = *state;
        char reason[REASON_LEN];

        /* One that fills the buffer may have been cut off. */
        for (unsigned i = 0; i < 2; i++) {
                int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
                struct sockaddr_un address = {.sun_family = AF_UNIX};
                char packet[600], said[64] = "";
                int n = snprintf(packet, sizeof packet, "wherry-gate 1 REGISTER %s 1 %s", A, KEY);

                strcpy(address.sun_path, f->socket);
                assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
                memset(packet + n, ' ', sizeof packet - (size_t)n);
                assert_int_equal(send(fd, packet, i == 0 ? 511 : sizeof packet, 0),
                                 i == 0 ? 511 : sizeof packet);
                assert_true(recv(fd, said, sizeof said - 1, 0) > 0);
                assert_int_equal(strncmp(said, "no", 2) == 0, i == 1);
                close(fd);
        }
        assert_int_equal(f->asked, 1);
        f->asked = 0;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(gate_ask(f->socket, bad[i][0], bad[i][1], 1, bad[i][2], 2000, reason), -1);
                assert_null(strstr(reason, "no answer"));
        }
        assert_int_equal(gate_ask(f->socket, "ACQUIRE", A, -1, KEY, 2000, reason), -1); /* no process */
        assert_int_equal(f->asked, 0);
}

/* A yes lets a guest run, so only root and hostd's own user, who may command libvirtd anyway, may ask for one. */
static void only_root_and_hostds_own_user_may_ask(void **state)
{
        struct fixture *f = *state;
        char reason[REASON_LEN];

        asker = geteuid() + 1;
        /* It is answered before it has asked, so the reason may be lost; the no is not. */
        assert_int_equal(gate_ask(f->socket, "REGISTER", A, 1, KEY, 2000, reason), -1);
        assert_int_equal(f->asked, 0);
        asker = 0;
        assert_int_equal(gate_ask(f->socket, "ACQUIRE", A, 1, KEY, 2000, reason), 0);
        asker = geteuid();
        assert_int_equal(gate_ask(f->socket, "ACQUIRE", A, 1, KEY, 2000, reason), 0);
        assert_int_equal(f->asked, 2);
}

struct speaking {
        int fd;
        const char *answer;
};

static void *speak(void *arg)
{
        struct speaking *s = arg;
        int fd = accept(s->fd, NULL, NULL);
        char packet[600];

        assert_true(recv(fd, packet, sizeof packet, 0) > 0);
        assert_int_equal(send(fd, s->answer, strlen(s->answer), 0), strlen(s->answer));
        close(fd);
        return NULL;
}

/* Only the very word is a yes. */
static void what_is_not_yes_is_a_no(void **state)
{
        static const char *const answers[] = {"yes", "yes ", "yess",  "ye",       "YES",
                                              "n",   "no",   "maybe", "no reason"};
        struct fixture *f = *state;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char reason[REASON_LEN];
        struct speaking s = {.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
        pthread_t thread;

        f->gate = gate_free(f->gate);
        unlink(f->socket);
        strcpy(address.sun_path, f->socket);
        assert_int_equal(bind(s.fd, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(s.fd, 5), 0);
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                s.answer = answers[i];
                assert_int_equal(pthread_create(&thread, NULL, speak, &s), 0);
                assert_int_equal(gate_ask(f->socket, "ACQUIRE", A, 1, KEY, 5000, reason), i == 0 ? 0 : -1);
                assert_int_equal(pthread_join(thread, NULL), 0);
        }
        assert_string_equal(reason, "reason");
        close(s.fd);
}

static void no_answer_is_a_no(void **state)
{
        struct fixture *f = *state;
        char reason[REASON_LEN];
        int64_t begin = clock_ms();

        f->sleep_ms = 400;
        assert_int_equal(gate_ask(f->socket, "ACQUIRE", A, 1, KEY, 50, reason), -1);
        assert_true(clock_ms() - begin < 350);
        assert_non_null(strstr(reason, "no answer"));
        f->gate = gate_free(f->gate); /* waits for that question */
        assert_true(clock_ms() - begin >= 400);
        assert_int_equal(gate_ask(f->socket, "ACQUIRE", A, 1, KEY, 1000, reason), -1);
        assert_non_null(strstr(reason, "no answer"));
        /* A socket that a dead hostd left behind is taken over. */
        f->sleep_ms = 0;
        assert_int_equal(gate_new(f->socket, on_question, f, &f->gate, NULL), 0);
        assert_int_equal(gate_ask(f->socket, "ACQUIRE", A, 1, KEY, 1000, reason), 0);
}

/* Stands in for a hostd at its end: takes one question and dies over it; the next hostd starts where `next`.
 */
struct dying {
        struct fixture *f;
        int fd;
        bool next;
};

static void *die_over_a_question(void *arg)
{
        struct dying *d = arg;
        struct timespec pause = {.tv_nsec = 100000000};
        char packet[512];
        int fd = accept(d->fd, NULL, NULL);

        assert_true(recv(fd, packet, sizeof packet, 0) > 0);
        close(d->fd);
        close(fd);
        nanosleep(&pause, NULL);
        if (d->next)
                assert_int_equal(gate_new(d->f->socket, on_question, d->f, &d->f->gate, NULL), 0);
        return NULL;
}

static int ask_dying(struct fixture *f, const char *question, bool next, int answer_ms,
                     char reason[REASON_LEN])
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct dying d = {.f = f, .next = next};
        pthread_t thread;
        int r;

        f->gate = gate_free(f->gate);
        unlink(f->socket);
        strcpy(address.sun_path, f->socket);
        d.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(d.fd, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(d.fd, 1), 0);
        assert_int_equal(pthread_create(&thread, NULL, die_over_a_question, &d), 0);
        r = gate_ask(f->socket, question, A, 1, KEY, answer_ms, reason);
        pthread_join(thread, NULL);
        return r;
}

static int ask_the_dying(struct fixture *f, const char *question, bool next, char reason[REASON_LEN])
{
        return ask_dying(f, question, next, next ? 5000 : 300, reason);
}

static void the_next_hostd_is_asked_again(void **state)
{
        struct fixture *f = *state;
        char reason[REASON_LEN];

        assert_int_equal(ask_the_dying(f, "ACQUIRE", true, reason), 0);
        assert_int_equal(f->asked, 1);
        assert_int_equal(f->last.question, GATE_ACQUIRE);
        assert_true(f->last.again);
        assert_int_equal(gate_ask(f->socket, "ACQUIRE", A, 1, KEY, 2000, reason), 0);
        assert_false(f->last.again);
        f->answer = -ESTALE; /* and what it says counts */
        assert_int_equal(ask_the_dying(f, "ACQUIRE", true, reason), -1);
        assert_string_equal(reason, "epoch 5 has passed");
        assert_int_equal(ask_the_dying(f, "ACQUIRE", false, reason), -1);
        assert_non_null(strstr(reason, "no answer"));
        /* What is no question of life is asked once. */
        f->answer = f->asked = 0;
        assert_int_equal(ask_the_dying(f, "REGISTER", true, reason), -1);
        assert_int_equal(f->asked, 0);
}

/* systemd has started the next hostd by then, or the guest need not stand any longer. */
static void the_next_hostd_is_waited_for_a_while(void **state)
{
        struct fixture *f = *state;
        char reason[REASON_LEN];

        for (unsigned i = 0; i < 2; i++) { /* an answer may take longer than that; or less */
                static const int answer_ms[] = {60000, 2000}, patience_ms[] = {5000, 2000};

                hurried_ms = 0;
                hurry_ms = 50;
                assert_int_equal(ask_dying(f, "ACQUIRE", false, answer_ms[i], reason), -1);
                hurry_ms = 0;
                assert_in_range(hurried_ms, patience_ms[i] / 4, patience_ms[i] + 500);
        }
}

static void *ask_many(void *arg)
{
        struct fixture *f = arg;
        char reason[REASON_LEN];
        intptr_t failures = 0;

        for (int i = 0; i < 50; i++)
                failures += gate_ask(f->socket, "ACQUIRE", A, 1, KEY, 5000, reason) != 0;
        return (void *)failures;
}

static void many_ask_at_once(void **state)
{
        struct fixture *f = *state;
        pthread_t threads[8];
        int64_t begin = clock_ns();
        void *failures;

        for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
                assert_int_equal(pthread_create(&threads[i], NULL, ask_many, f), 0);
        for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
                pthread_join(threads[i], &failures);
                assert_null(failures);
        }
        assert_int_equal(f->asked, 400);
        begin = clock_ns() - begin;
        printf("400 questions from 8 threads in %d us\n", (int)(begin / 1000));
        begin = clock_ns();
        (void)ask_many(f);
        printf("one after the other: %d us each\n", (int)((clock_ns() - begin) / 50000));
}

static pid_t child_new(void)
{
        pid_t pid = fork();

        if (pid == 0) {
                pause();
                _exit(0);
        }
        assert_true(pid > 0);
        return pid;
}

static bool lock_is_free(const char *path)
{
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        _cleanup_(closep) int fd = open(path, O_RDWR | O_CLOEXEC);

        return fd >= 0 && fcntl(fd, F_OFD_SETLK, &l) == 0;
}

static void second_lock_lives_as_long_as_its_process(void **state)
{
        struct fixture *f = *state;
        struct holds *h = holds_new(), *other = holds_new();
        char path[160], reason[REASON_LEN];
        pid_t one = child_new(), two = child_new();
        bool fresh = false;
        int64_t begin;

        assert_non_null(h);
        snprintf(path, sizeof path, "%s/lock", f->folder);
        assert_int_equal(holds_take(h, path, one, 100, &fresh, reason), 0);
        assert_true(fresh);
        assert_int_equal(holds_take(h, path, one, 100, &fresh, reason), 0); /* its own again */
        assert_false(fresh);
        assert_false(lock_is_free(path));

        /* Another QEMU, in this libvirtd or another: waits, then gives up. */
        begin = clock_ms();
        assert_int_equal(holds_take(h, path, two, 100, &fresh, reason), -1);
        assert_int_equal(holds_take(other, path, two, 100, &fresh, reason), -1);
        assert_true(clock_ms() - begin >= 200);
        assert_non_null(strstr(reason, "still locked"));

        /* Its process dies: the lock is free, and one who waits for it gets it. */
        kill(one, SIGKILL);
        assert_int_equal(holds_take(other, path, two, 5000, &fresh, reason), 0);
        waitpid(one, NULL, 0);
        assert_int_equal(holds_take(h, path, one, 100, &fresh, reason), -1); /* no such process */
        holds_drop(other, path, one);                                        /* not its */
        assert_false(lock_is_free(path));
        holds_drop(other, path, two);
        assert_true(lock_is_free(path));

        assert_int_equal(holds_take(h, path, two, 100, &fresh, reason), 0);
        h = holds_free(h);
        assert_true(lock_is_free(path));
        other = holds_free(other);
        kill(two, SIGKILL);
        waitpid(two, NULL, 0);
}

static void lock_behind_a_symbolic_link_is_refused(void **state)
{
        struct fixture *f = *state;
        struct holds *h = holds_new();
        char path[160], reason[REASON_LEN];
        bool fresh;

        snprintf(path, sizeof path, "%s/lock", f->folder);
        assert_int_equal(symlink("/tmp/wherry-elsewhere", path), 0);
        assert_int_equal(holds_take(h, path, getpid(), 100, &fresh, reason), -1);
        assert_int_not_equal(access("/tmp/wherry-elsewhere", F_OK), 0);
        holds_free(h);
}

static void settings_come_from_file_and_environment(void **state)
{
        struct fixture *f = *state;
        static const char good[] = "# where\n gate = \"/run/x y\"\n\nanswer_ms=70\n";
        static const char bad[] = "answer_ms = 70\nanswer = 5\n";
        static const char *const no_time[] = {"9x", "", "0", "-5", "600001", "99999999999999999999"};
        struct settings s;
        char path[160], reason[REASON_LEN];

        snprintf(path, sizeof path, "%s/conf", f->folder);
        assert_int_equal(settings_load(NULL, &s, reason), 0);
        assert_string_equal(s.gate, GATE_SOCKET);
        assert_int_equal(settings_load("/nonexistent", &s, reason), 0);
        assert_int_equal(file_write(path, good, strlen(good), 0600, NULL), 0);
        assert_int_equal(settings_load(path, &s, reason), 0);
        assert_string_equal(s.gate, "/run/x y");
        assert_int_equal(s.answer_ms, 70);
        setenv("WHERRY_GATE", "/run/environment", 1);
        setenv("WHERRY_GATE_LOCK_MS", "9", 1);
        assert_int_equal(settings_load(path, &s, reason), 0);
        assert_string_equal(s.gate, "/run/environment");
        assert_int_equal(s.lock_ms, 9);
        for (unsigned i = 0; i < ARRAY_SIZE(no_time); i++) {
                setenv("WHERRY_GATE_LOCK_MS", no_time[i], 1);
                assert_int_equal(settings_load(path, &s, reason), -1);
        }
        setenv("WHERRY_GATE_LOCK_MS", "600000", 1);
        assert_int_equal(settings_load(path, &s, reason), 0);
        setenv("WHERRY_GATE_LOCK_MS", "1", 1);
        assert_int_equal(settings_load(path, &s, reason), 0);
        unsetenv("WHERRY_GATE_LOCK_MS");
        setenv("WHERRY_GATE", "relative", 1);
        assert_int_equal(settings_load(path, &s, reason), -1);
        unsetenv("WHERRY_GATE");
        assert_int_equal(file_write(path, bad, strlen(bad), 0600, NULL), 0);
        assert_int_equal(settings_load(path, &s, reason), -1);
        assert_non_null(strstr(reason, "line 2"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(question_arrives_whole_and_yes_comes_back, setup, teardown),
            cmocka_unit_test_setup_teardown(no_comes_with_its_reason, setup, teardown),
            cmocka_unit_test_setup_teardown(malformed_questions_are_a_no_without_asking, setup, teardown),
            cmocka_unit_test_setup_teardown(the_next_hostd_is_asked_again, setup, teardown),
            cmocka_unit_test_setup_teardown(the_next_hostd_is_waited_for_a_while, setup, teardown),
            cmocka_unit_test_setup_teardown(only_root_and_hostds_own_user_may_ask, setup, teardown),
            cmocka_unit_test_setup_teardown(what_is_not_yes_is_a_no, setup, teardown),
            cmocka_unit_test_setup_teardown(no_answer_is_a_no, setup, teardown),
            cmocka_unit_test_setup_teardown(many_ask_at_once, setup, teardown),
            cmocka_unit_test_setup_teardown(second_lock_lives_as_long_as_its_process, setup, teardown),
            cmocka_unit_test_setup_teardown(lock_behind_a_symbolic_link_is_refused, setup, teardown),
            cmocka_unit_test_setup_teardown(settings_come_from_file_and_environment, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
