/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "common/conf.h"
#include "common/log.h"
#include "common/util.h"
#include "imaged/imaged.h"

#define CONFIG "/etc/wherry/imaged.conf"
#define TOKEN_MAX 4096

/* Everything that imaged.conf can say. */
struct config {
        char *url, *ceph_conf, *ceph_user;
        char *listen, *token_file, *stale_seconds, *public_url;
        char *undelete_seconds, *allow_private;
        char *hostd_token_file;
        char *bridge, *range, *first, *last, *gateway, *nameservers;
};

#define CONFIG_KEYS(c)                                                                                      \
        {                                                                                                   \
                {"store", "url", NULL, "dir:PATH, nfs://SERVER/EXPORT or rbd:POOL[/NAMESPACE]", &(c)->url}, \
                    {"store", "ceph_conf", NULL, "rbd: the cluster's configuration", &(c)->ceph_conf},      \
                    {"store", "ceph_user", NULL, "rbd: the cephx user, without \"client.\"",                \
                     &(c)->ceph_user},                                                                      \
                    {"api", "listen", "127.0.0.1:8080", "ADDRESS:PORT", &(c)->listen},                      \
                    {"api", "token_file", NULL, "the file with the token of our callers",                   \
                     &(c)->token_file},                                                                     \
                    {"api", "stale_seconds", "60",                                                          \
                     "what is half-made and does not move so long is removed; an upload of "                \
                     "`wherry image add` after three times as long",                                        \
                     &(c)->stale_seconds},                                                                  \
                    {"api", "public_url", NULL,                                                             \
                     "where clients reach this service; default: what they call it", &(c)->public_url},     \
                    {"images", "undelete_seconds", "86400",                                                 \
                     "a deleted image can be undeleted so long; 0: not at all", &(c)->undelete_seconds},    \
                    {"images", "allow_private", "no",                                                       \
                     "yes: members may have images fetched from private addresses", &(c)->allow_private},   \
                    {"hostd", "token_file", NULL, "the file with the cluster's token",                      \
                     &(c)->hostd_token_file},                                                               \
                    {"network", "bridge", "wherry0", "the bridge on every host", &(c)->bridge},             \
                    {"network", "range", "10.77.0.0/16", "the network's addresses", &(c)->range},           \
                    {"network", "first", "10.77.0.10", "the first address for instances", &(c)->first},     \
                    {"network", "last", "10.77.255.250", "the last one", &(c)->last},                       \
                    {"network", "gateway", "10.77.0.1", "empty: none", &(c)->gateway},                      \
                {                                                                                           \
                        "network", "nameservers", "", "addresses, apart by spaces", &(c)->nameservers       \
                }                                                                                           \
        }

static void usage(void)
{
        struct config c;
        const struct conf_key keys[] = CONFIG_KEYS(&c);

        printf("usage: imaged [--config FILE] [--debug]\n\n"
               "Keeps the catalog of images and instances of a Wherry store and serves its HTTP API.\n\n"
               "  --config FILE  default " CONFIG "\n"
               "  --debug        log more\n"
               "  --help         this text\n"
               "  --version      the version\n\n"
               "What FILE may set:\n");
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                printf("  [%s] %-14s %s%s%s%s\n", keys[i].section, keys[i].name, keys[i].help,
                       keys[i].fallback ? " (" : "", keys[i].fallback ? keys[i].fallback : "",
                       keys[i].fallback ? ")" : "");
}

/* 0: go on; 1: done; negative: wrong. */
static int arguments(int argc, char **argv, const char **ret_config)
{
        *ret_config = CONFIG;
        for (int i = 1; i < argc; i++) {
                if (streq(argv[i], "--help")) {
                        usage();
                        return 1;
                }
                if (streq(argv[i], "--version")) {
                        printf("imaged %s\n", WHERRY_VERSION);
                        return 1;
                }
                if (streq(argv[i], "--debug")) {
                        log_level(LOG_DEBUG);
                } else if (streq(argv[i], "--config") && i + 1 < argc) {
                        *ret_config = argv[++i];
                } else {
                        fprintf(stderr,
                                "imaged: \"%s\" is not an argument, or lacks its value; see imaged --help\n",
                                argv[i]);
                        return -EINVAL;
                }
        }
        return 0;
}

/* A token's file, without the line break at its end. */
static int token_read(const char *path, const char *setting, char **ret, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        size_t n;
        int r;

        r = file_read(path, TOKEN_MAX, &text, &n, err);
        if (r < 0)
                return err_wrap(err, r, "%s", setting);
        while (n > 0 && isspace((unsigned char)text[n - 1]))
                text[--n] = '\0';
        if (n < 16)
                return err_set(err, -EINVAL,
                               "%s: %s holds a token of %zu characters; at least 16 are needed", setting,
                               path, n);
        for (const char *p = text; *p; p++) {
                if (!isgraph((unsigned char)*p))
                        return err_set(err, -EINVAL,
                                       "%s: %s: the token has a character that a header cannot carry",
                                       setting, path);
        }
        *ret = take(text);
        return 0;
}

static int number_read(const char *text, const char *setting, unsigned long min, unsigned long max,
                       unsigned long *ret, struct err *err)
{
        char *end;

        *ret = strtoul(text, &end, 10);
        if (*end || end == text || text[0] == '-' || *ret < min || *ret > max)
                return err_set(err, -EINVAL, "%s: \"%s\"; %lu to %lu are possible", setting, text, min, max);
        return 0;
}

static int options_fill(const struct config *c, struct imaged_options *o, char **token, char **hostd_token,
                        struct err *err)
{
        unsigned long stale, undelete;
        int r;

        if (!c->url)
                return err_set(err, -EINVAL, "[store] url is missing");
        if (!c->token_file)
                return err_set(err, -EINVAL, "[api] token_file is missing");
        r = number_read(c->stale_seconds, "[api] stale_seconds", 1, 86400, &stale, err);
        if (r == 0)
                r = number_read(c->undelete_seconds, "[images] undelete_seconds", 0, 366UL * 86400,
                                &undelete, err);
        if (r < 0)
                return r;
        if (!streq(c->allow_private, "yes") && !streq(c->allow_private, "no"))
                return err_set(err, -EINVAL, "[images] allow_private: \"%s\"; yes and no are possible",
                               c->allow_private);
        if (c->public_url && strncmp(c->public_url, "http://", 7) != 0 &&
            strncmp(c->public_url, "https://", 8) != 0)
                return err_set(err, -EINVAL, "[api] public_url: \"%s\" is not http://... or https://...",
                               c->public_url);
        r = token_read(c->token_file, "[api] token_file", token, err);
        if (r == 0 && c->hostd_token_file)
                r = token_read(c->hostd_token_file, "[hostd] token_file", hostd_token, err);
        *o = (struct imaged_options){
            .store_url = c->url,
            .ceph_conf = c->ceph_conf,
            .ceph_user = c->ceph_user,
            .listen = c->listen,
            .token = *token,
            .hostd_token = *hostd_token,
            .network = {c->bridge, c->range, c->first, c->last, c->gateway, c->nameservers},
            .public_url = c->public_url && c->public_url[0] ? c->public_url : NULL,
            .undelete_s = (unsigned)undelete,
            .allow_private = streq(c->allow_private, "yes"),
            .stale_ms = (unsigned)stale * 1000};
        return r;
}

/* Until SIGTERM or SIGINT, which are blocked everywhere and taken here. */
static int run(const struct imaged_options *o, const sigset_t *ends, struct err *err)
{
        struct imaged *im = NULL;
        int r, sig;

        r = imaged_new(o, &im, err);
        if (r < 0)
                return r;
        log_info("serving %s on port %u", o->store_url, imaged_port(im));
        sd_notifyf(0, "READY=1\nSTATUS=serving %s", o->store_url);
        sigwait(ends, &sig);
        log_info("%s: ending", strsignal(sig));
        sd_notify(0, "STOPPING=1");
        imaged_free(im);
        return 0;
}

int main(int argc, char **argv)
{
        struct config c = {0};
        const struct conf_key keys[] = CONFIG_KEYS(&c);
        _cleanup_(freep) char *token = NULL, *hostd_token = NULL;
        struct imaged_options o;
        const char *config;
        struct err err = {0};
        sigset_t ends;
        int r;

        r = arguments(argc, argv, &config);
        if (r != 0)
                return r < 0 ? 2 : 0;
        mallopt(M_ARENA_MAX,
                2); /* a thread per connection: an arena for each would cost more memory than all else */
        /* An upload's buffers, of 1 MiB each, are used again and again: mapped anew each time they would
         * cost a page fault every 4 KiB. They go back to the system with its end (imaged/pipeline.c). */
        mallopt(M_MMAP_THRESHOLD, 4 << 20);
        mallopt(M_TRIM_THRESHOLD, 32 << 20);
        signal(SIGPIPE, SIG_IGN);
        sigemptyset(&ends);
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGINT);
        pthread_sigmask(SIG_BLOCK, &ends, NULL);
        r = conf_load(config, keys, ARRAY_SIZE(keys), &err);
        if (r == 0) {
                r = options_fill(&c, &o, &token, &hostd_token, &err);
                if (r == 0)
                        r = run(&o, &ends, &err);
                conf_done(keys, ARRAY_SIZE(keys));
        }
        if (r < 0)
                log_error("imaged: %s", err_text(&err));
        return r < 0 ? 1 : 0;
}
