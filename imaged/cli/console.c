/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "common/http-client.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/stream.h"

#define ESCAPE 0x1d /* Ctrl-] */
#define OPEN_TIMEOUT_MS 10000
#define WRITE_TIMEOUT_MS 10000

struct console {
        struct stream *stream;
        bool terminal; /* standard input is one, and raw */
        bool input_open;
        struct termios before;
};

static void terminal_raw(struct console *c)
{
        struct termios raw;

        c->terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &c->before) == 0;
        if (!c->terminal)
                return;
        raw = c->before;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static void terminal_restore(struct console *c)
{
        if (c->terminal)
                tcsetattr(STDIN_FILENO, TCSAFLUSH, &c->before);
        c->terminal = false;
}

/* Everything that the guest has sent. 0: go on; 1: the stream has ended. */
static int from_guest(struct console *c, struct err *err)
{
        char buf[4096];
        ssize_t n;

        while ((n = stream_read(c->stream, buf, sizeof(buf))) > 0)
                if (write_full(STDOUT_FILENO, buf, (size_t)n) < 0)
                        return 1; /* nobody reads us any more */
        if (n == -EAGAIN)
                return 0;
        return n == 0 ? 1 : err_set(err, (int)n, "the connection to the console broke off");
}

/* What was typed; Ctrl-] at a terminal ends. 0: go on; 1: end. */
static int to_guest(struct console *c, struct err *err)
{
        char buf[1024];
        ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
        const char *escape;
        int r;

        if (n < 0)
                return errno == EINTR || errno == EAGAIN
                           ? 0
                           : err_set(err, -errno, "standard input: %s", strerror(errno));
        if (n == 0) {
                c->input_open = false;
                return c->terminal; /* a pipe that has ended still wants the guest's answer */
        }
        escape = c->terminal ? memchr(buf, ESCAPE, (size_t)n) : NULL;
        r = stream_write(c->stream, buf, escape ? (size_t)(escape - buf) : (size_t)n, WRITE_TIMEOUT_MS);
        if (r < 0)
                return err_set(err, r, "the console takes no input: %s", strerror(-r));
        return escape != NULL;
}

static int converse(struct console *c, struct err *err)
{
        int r = from_guest(c, err); /* bytes may have come with the reply's head */

        while (r == 0 && !interrupted()) {
                struct pollfd fds[] = {
                    {.fd = stream_fd(c->stream), .events = POLLIN},
                    {.fd = c->input_open ? STDIN_FILENO : -1, .events = POLLIN},
                };

                if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
                        return err_set(err, -errno, "poll: %s", strerror(errno));
                if (interrupted())
                        break;
                if (fds[0].revents)
                        r = from_guest(c, err);
                if (r == 0 && fds[1].revents)
                        r = to_guest(c, err);
        }
        return r < 0 ? r : 0;
}

int cmd_console(struct cli *cli, struct err *err)
{
        const char *name = cli->arguments[0];
        _cleanup_(freep) char *escaped = http_escape(name), *path = NULL;
        _cleanup_(stream_closep) struct stream *stream = NULL;
        struct console c = {.input_open = true};
        int r;

        if (cli->json)
                return cli_usage(cli, err, "a console is a stream of bytes: it has no --json");
        path = escaped ? str_printf("/v1/instances/%s/console", escaped) : NULL;
        if (!path)
                return err_set(err, -ENOMEM, "out of memory");
        r = stream_open(cli->url, cli->token, path, "wherry-console", OPEN_TIMEOUT_MS, &stream, err);
        if (r < 0)
                return r;
        c.stream = stream;
        if (isatty(STDIN_FILENO))
                fprintf(stderr, "attached to %s; Ctrl-] ends\n", name);
        interrupt_catch(NULL);
        terminal_raw(&c);
        r = converse(&c, err);
        if (c.terminal) {
                terminal_restore(&c);
                fprintf(stderr, "\ndetached from %s\n", name);
        }
        interrupt_release();
        return r;
}
