/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * The `wherry` command. One table of commands (commands.c) drives dispatch, --help, the manual page and the
 * shell completion. The program has one thread; a handler prints its result and returns 0, or -errno with
 * err set.
 */
struct cli;
struct http_client;

struct cli_option {
        const char *name;     /* "--cpus" */
        char letter;          /* 'f' for -f, 0: none */
        const char *value;    /* what the help calls the value, "N"; NULL: a switch */
        const char *fallback; /* the value when it is not given, NULL: none */
        const char *help;     /* one line */
};

struct cli_command {
        const char *name;      /* "image add", "run" */
        const char *arguments; /* "FILE|URL"; empty: none */
        const char *help;      /* one line */
        const char *details;   /* for the manual page and the command's own --help; may be NULL */
        const struct cli_option *options;
        size_t n_options;
        unsigned min_arguments, max_arguments;
        int (*handler)(struct cli *cli, struct err *err);
        bool offline; /* needs no server: none is looked for */
};

/* The table, in the order of the help, and the options that every command takes. */
extern const struct cli_command cli_commands[];
extern const size_t cli_n_commands;
extern const struct cli_option cli_common_options[];
extern const size_t cli_n_common_options;

#define CLI_VALUES_MAX 32

struct cli {
        const struct cli_command *command;
        const char *arguments[4]; /* borrowed from argv, in order; NULL beyond the last */
        struct {
                const struct cli_option *option;
                const char *value;
        } values[CLI_VALUES_MAX];
        size_t n_values;
        bool json;    /* --json: one document on standard output */
        bool usage;   /* the error is one of usage: exit status 2 */
        bool refused; /* an image is not safe: exit status 2 */
        bool told;    /* the handler's --json document is out already, so that an error adds none */
        struct http_client *http;
        char *url, *token; /* owned */
};

/*
 * Finds the command and its options in argv (argv[0] is the program); a failure is a usage error. --help and
 * --version give the commands that print them.
 */
int cli_parse(struct cli *cli, int argc, char **argv, struct err *err);
void cli_done(struct cli *cli);

/* An option of this command: its value (or fallback, or NULL), whether a switch was given, its number of
 * values and one. */
const char *cli_value(const struct cli *cli, const char *name);
bool cli_given(const struct cli *cli, const char *name);
/* The i-th value of an option that may stand several times; NULL beyond the last. */
const char *cli_nth(const struct cli *cli, const char *name, size_t i);
/* A value as a whole number from min to max, or a size in bytes ("512M") of at least min. Errors are usage
 * errors. */
int cli_number(struct cli *cli, const char *name, int64_t min, int64_t max, int64_t *ret, struct err *err);
int cli_size(struct cli *cli, const char *name, uint64_t min, uint64_t *ret, struct err *err);

/* Marks the error as one of usage. Returns -EINVAL. */
int cli_usage(struct cli *cli, struct err *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The server's URL and token from the options, the environment and the configuration files (see settings.c).
 */
int cli_settings(struct cli *cli, struct err *err);

/* A call to the server; path is made by printf. ret may be NULL, otherwise the caller's. Errors say what to
 * do. */
int cli_call(struct cli *cli, const char *method, const json_t *body, json_t **ret, struct err *err,
             const char *path, ...) __attribute__((format(printf, 6, 7)));

/* The array's elements in the order of one of their members, a number or a string: lists come in no order. A
 * new reference; NULL: out of memory. */
json_t *cli_sorted(const json_t *array, const char *key);

/* A text for a JSON document. The name of a file may be no UTF-8: bytes beyond ASCII become "?" then. A new
 * reference; NULL: out of memory. */
json_t *cli_text(const char *text);

/* Prints one JSON document and a line break: indented, or in one line for streams. */
void cli_print(struct cli *cli, const json_t *j);
void cli_print_line(struct cli *cli, const json_t *j);

/* --help of all or of one command, the manual page (troff) and the bash completion, all from the table. */
void cli_help(const struct cli_command *command);
void cli_manual(void);
void cli_completion(void);

/* The handlers, by the file they live in. */
int cmd_image_add(struct cli *cli, struct err *err);
int cmd_image_inspect(struct cli *cli, struct err *err);
int cmd_image_capture(struct cli *cli, struct err *err);
int cmd_image_convert(struct cli *cli, struct err *err);
int cmd_image_list(struct cli *cli, struct err *err);
int cmd_image_show(struct cli *cli, struct err *err);
int cmd_image_rm(struct cli *cli, struct err *err);
int cmd_image_set(struct cli *cli, struct err *err);
int cmd_image_share(struct cli *cli, struct err *err);
int cmd_image_unshare(struct cli *cli, struct err *err);
int cmd_image_deactivate(struct cli *cli, struct err *err);
int cmd_image_reactivate(struct cli *cli, struct err *err);
int cmd_image_undelete(struct cli *cli, struct err *err);
int cmd_image_verify(struct cli *cli, struct err *err);
int cmd_image_save(struct cli *cli, struct err *err);
int cmd_account_add(struct cli *cli, struct err *err);
int cmd_account_list(struct cli *cli, struct err *err);
int cmd_account_show(struct cli *cli, struct err *err);
int cmd_account_set(struct cli *cli, struct err *err);
int cmd_account_rm(struct cli *cli, struct err *err);
int cmd_account_password(struct cli *cli, struct err *err);
int cmd_run(struct cli *cli, struct err *err);
int cmd_ls(struct cli *cli, struct err *err);
int cmd_show(struct cli *cli, struct err *err);
int cmd_stop(struct cli *cli, struct err *err);
int cmd_start(struct cli *cli, struct err *err);
int cmd_restart(struct cli *cli, struct err *err);
int cmd_rm(struct cli *cli, struct err *err);
int cmd_migrate(struct cli *cli, struct err *err);
int cmd_host_list(struct cli *cli, struct err *err);
int cmd_host_show(struct cli *cli, struct err *err);
int cmd_host_drill(struct cli *cli, struct err *err);
int cmd_host_maintenance(struct cli *cli, struct err *err);
int cmd_failovers(struct cli *cli, struct err *err);
int cmd_events(struct cli *cli, struct err *err);
int cmd_console(struct cli *cli, struct err *err);
int cmd_store(struct cli *cli, struct err *err);
int cmd_store_check(struct cli *cli, struct err *err);
int cmd_version(struct cli *cli, struct err *err);
int cmd_completion(struct cli *cli, struct err *err);
int cmd_manual(struct cli *cli, struct err *err);
int cmd_help(struct cli *cli, struct err *err);
