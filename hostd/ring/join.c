/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/manager.h"
#include "hostd/record.h"
#include "hostd/survey.h"

#define DISARMED_MS 60000 /* after an orderly stop: time for an upgrade before neighbours act */

static void host_id(unsigned number, char ret[12])
{
        snprintf(ret, 12, "%u", number);
}

/* What a join writes; members that others own (drained) stay. */
static int edit_join(json_t *doc, void *arg, struct err *err)
{
        struct manager *m = arg;
        const struct config *c = m->config;
        _cleanup_(freep) char *api = str_printf("http://%s", c->listen), *boot = NULL;
        uint64_t epoch = (uint64_t)json_get_int(doc, "epoch", 0) + 1;
        json_t *fresh;

        fresh = json_pack("{s:i,s:s,s:s,s:s,s:s,s:s,s:I,s:s,s:i,s:I,s:s,s:s,s:i,s:{s:s,s:s,s:s}}", "number",
                          (int)m->number, "name", c->name, "address", c->address, "api", api ? api : "",
                          "peer_uri", c->peer_uri, "state", host_state_name(HOST_UP), "epoch",
                          (json_int_t)epoch, "nonce", m->nonce, "cpus", (int)m->capacity.cpus, "memory",
                          (json_int_t)m->capacity.memory, "cpu_model", m->capacity.cpu_model, "accel",
                          m->kvm ? "kvm" : "tcg", "disarmed_ms", 0, "versions", "hostd", WHERRY_VERSION,
                          "libvirt", m->capacity.libvirt, "qemu", m->capacity.qemu);
        if (!fresh)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_update(doc, fresh);
        json_decref(fresh);
        if (file_read("/proc/sys/kernel/random/boot_id", 64, &boot, NULL, NULL) ==
            0) /* tells machines apart */
                json_object_set_new(doc, "boot_id", json_stringn(boot, strcspn(boot, "\n")));
        json_object_del(doc, "taken");
        m->epoch = epoch;
        return 1;
}

/* The lowest number that no host has; another that takes it at the same time wins by compare-and-swap. */
static int host_take_number(struct manager *m, struct err *err)
{
        for (unsigned number = 1; number < 65536; number++) {
                _cleanup_(json_decrefpp) json_t *doc = NULL;
                _cleanup_(freep) char *text = NULL;
                uint64_t version;
                char id[12];
                int r;

                host_id(number, id);
                r = record_load(m->store, RECORD_HOST, id, &doc, &version, err);
                if (r == 0 && streq(json_get_str(doc, "name", ""), m->config->name)) {
                        m->number = number;
                        return 0;
                }
                if (r == 0)
                        continue;
                if (r != -ENOENT)
                        return r;
                text = str_printf("{\"id\":\"%s\",\"number\":%u,\"name\":\"%s\",\"epoch\":0,\"state\":"
                                  "\"stopped\",\"drained\":false}",
                                  id, number, m->config->name);
                r = text ? record_put(m->store, RECORD_HOST, id, 0, text, &version, err) : -ENOMEM;
                if (r == 0)
                        m->number = number;
                if (r != -ESTALE)
                        return r;
                number--; /* somebody took it: look who */
        }
        return err_set(err, -ENOSPC, "all host numbers up to 65535 are taken");
}

static int host_make_record(struct manager *m, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        uint64_t version;
        char id[12];
        int r;

        host_id(m->number, id);
        text = str_printf("{\"id\":\"%s\",\"number\":%u,\"name\":\"%s\",\"epoch\":0,\"state\":\"stopped\","
                          "\"drained\":false}",
                          id, m->number, m->config->name);
        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        r = record_put(m->store, RECORD_HOST, id, 0, text, &version, err);
        return r == -ESTALE ? 0 : r; /* there is one */
}

int host_join(struct manager *m, bool first, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *before = NULL;
        const char *state;
        char id[12];
        int r;

        if (first) { /* a number from the configuration is in use by the heartbeat already */
                r = m->number ? host_make_record(m, err) : host_take_number(m, err);
                if (r < 0)
                        return err_wrap(err, r, "joining");
        }
        host_id(m->number, id);
        r = record_load(m->store, RECORD_HOST, id, &before, NULL, err);
        if (r == 0 && !streq(json_get_str(before, "name", ""), m->config->name))
                return err_set(err, -EEXIST,
                               "host number %u belongs to host %s already: give %s another in [host] number",
                               m->number, json_get_str(before, "name", "?"), m->config->name);
        if (r == 0)
                r = record_change(m->store, RECORD_HOST, id, edit_join, m, err);
        if (r < 0)
                return err_wrap(err, r, "joining as host %u", m->number);
        state = json_get_str(before, "state", "");
        log_info("host %s: joined as number %u, epoch %llu", m->config->name, m->number,
                 (unsigned long long)m->epoch);
        if (streq(state, host_state_name(HOST_DEAD)))
                event_add(m, "host-returned", NULL, NULL,
                          "host %s is back: it had been fenced, host %lld had taken it over at epoch %lld",
                          m->config->name,
                          (long long)json_get_int(json_object_get(before, "taken"), "by", 0),
                          (long long)json_get_int(before, "epoch", 0));
        else
                event_add(m, "host-joined", NULL, NULL, "host %s joined", m->config->name);
        return 0;
}

static int edit_leave(json_t *doc, void *arg, struct err *err)
{
        struct manager *m = arg;

        (void)err;
        if (!streq(json_get_str(doc, "nonce", ""), m->nonce) ||
            (uint64_t)json_get_int(doc, "epoch", 0) != m->epoch)
                return 0; /* taken over meanwhile: not ours to change */
        json_object_set_new(doc, "state", json_string(host_state_name(HOST_STOPPED)));
        json_object_set_new(doc, "disarmed_ms", json_integer(DISARMED_MS));
        return 1;
}

void host_leave(struct manager *m)
{
        struct err e = {0};
        char id[12];

        if (m->number == 0)
                return;
        host_id(m->number, id);
        if (record_change(m->store, RECORD_HOST, id, edit_leave, m, &e) < 0)
                log_warn("host %s: orderly end not recorded, neighbours will act: %s", m->config->name,
                         err_text(&e));
}

static void *beat_main(void *arg)
{
        struct manager *m = arg;
        uint64_t counter = random_u64() >> 1; /* differs from whatever an earlier run left */
        bool failing = false;
        int64_t next = clock_ms();

        while (!m->beat_quit) {
                struct err e = {0};
                int64_t begun = clock_ms(), pause;

                if (beat_write(m->pulse, m->number, counter++, &e) == 0) {
                        m->own_write_ms = begun;
                        if (failing)
                                log_info("host %s: heartbeats reach the storage again", m->config->name);
                        failing = false;
                } else if (!failing) {
                        log_error("host %s: heartbeat not written, starting nothing: %s", m->config->name,
                                  err_text(&e));
                        failing = true;
                }
                next += WATCH_BEAT_MS;
                pause = next - clock_ms();
                if (pause < 0)
                        next = clock_ms();
                else
                        poll(NULL, 0, (int)pause);
        }
        return NULL;
}

int host_beat_start(struct manager *m, struct err *err)
{
        int r;

        /* The first heartbeat goes out before anything else is done. */
        r = beat_write(m->pulse, m->number, random_u64() >> 1, err);
        if (r < 0)
                return err_wrap(err, r, "first heartbeat");
        m->own_write_ms = clock_ms();
        r = -pthread_create(&m->beat_thread, NULL, beat_main, m);
        if (r < 0)
                return err_set(err, r, "cannot start a thread: %s", strerror(-r));
        m->beat_running = true;
        return 0;
}

int host_record(struct manager *m, unsigned number, json_t **ret, struct err *err)
{
        char id[12];
        int r;

        host_id(number, id);
        r = record_load(m->store, RECORD_HOST, id, ret, NULL, err);
        return r == -ENOENT ? err_set(err, -ENOENT, "no host has the number %u", number) : r;
}

int host_can_start(struct manager *m, struct err *err)
{
        if (!manager_trusted(m))
                return err_set(err, -EAGAIN, "its heartbeats do not reach the storage");
        if (!m->virt_connected)
                return err_set(err, -EAGAIN, "its libvirt does not answer");
        return 0;
}

int host_look(struct manager *m, unsigned number, const char *instance, bool to_start, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *host = NULL, *body = NULL;
        struct http_client *c = NULL;
        int r;

        if (number == m->number) {
                manager_wake(m, instance);
                return to_start ? host_can_start(m, err) : 0;
        }
        r = host_record(m, number, &host, err);
        if (r == 0)
                r = http_client_new(json_get_str(host, "api", ""), m->config->token, 1000, &c, err);
        if (r < 0)
                return r;
        body = json_pack("{s:s,s:b}", "instance", instance, "start", to_start);
        r = http_call(c, "POST", "/v1/look", body, NULL, NULL, err);
        http_client_free(c);
        return r;
}
