/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"

/* What log_at writes to standard error while it is a pipe. */
static size_t logged(int priority, const char *text, char *buf, size_t len)
{
        int fds[2], saved = dup(STDERR_FILENO);
        ssize_t n;

        assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
        dup2(fds[1], STDERR_FILENO);
        log_at(priority, "%s", text);
        dup2(saved, STDERR_FILENO);
        n = read(fds[0], buf, len - 1);
        close(fds[0]);
        close(fds[1]);
        close(saved);
        buf[n > 0 ? n : 0] = '\0';
        return n > 0 ? (size_t)n : 0;
}

static void log_lines_carry_their_priority(void **state)
{
        char buf[4096], text[3000];

        log_level(LOG_INFO);
        assert_true(logged(LOG_INFO, "instance web1: runs", buf, sizeof(buf)) > 0);
        assert_memory_equal(buf, "<6>", 3);
        assert_non_null(strstr(buf, " instance web1: runs\n"));
        assert_int_equal(logged(LOG_DEBUG, "not shown", buf, sizeof(buf)), 0);
        log_level(LOG_DEBUG);
        assert_true(logged(LOG_DEBUG, "shown", buf, sizeof(buf)) > 0);
        log_level(LOG_INFO);
        memset(text, 'y', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        for (size_t n = 990; n < 1030; n++) { /* around the line's limit: cut, ended, and never overrun */
                size_t got;

                text[n] = '\0';
                got = logged(LOG_ERR, text, buf, sizeof(buf));
                text[n] = 'y';
                assert_in_range(got, 900, 1024);
                assert_int_equal(buf[got - 1], '\n');
                assert_int_equal(buf[got - 2], 'y');
        }
}

static void a_message_is_one_line_and_keeps_errno(void **state)
{
        char buf[4096];

        errno = ENOSPC;
        logged(LOG_ERR, "first\n<0>forged\r\x1b[2J", buf, sizeof(buf));
        assert_int_equal(errno, ENOSPC);
        assert_ptr_equal(strchr(buf, '\n'), buf + strlen(buf) - 1);
        assert_null(strchr(buf, '\x1b'));
        assert_null(strchr(buf, '\r'));
}

static void a_full_pipe_does_not_stop_the_caller(void **state)
{
        int fds[2], saved = dup(STDERR_FILENO);
        int64_t start = clock_ms();

        assert_int_equal(pipe2(fds, 0), 0); /* blocking, and nobody reads */
        dup2(fds[1], STDERR_FILENO);
        for (int i = 0; i < 5000; i++)
                log_error("line %d of many that fill a pipe of 64 KiB soon enough", i);
        dup2(saved, STDERR_FILENO);
        close(saved);
        close(fds[0]);
        close(fds[1]);
        assert_true(clock_ms() - start < 5000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(log_lines_carry_their_priority),
            cmocka_unit_test(a_message_is_one_line_and_keeps_errno),
            cmocka_unit_test(a_full_pipe_does_not_stop_the_caller),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
