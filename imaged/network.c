/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "imaged/hosts.h"
#include "imaged/index.h"
#include "imaged/records.h"

/* A record holds 256 KiB, a lease some 56 bytes of it. */
#define LEASES_MAX 4500

static int address_parse(const char *text, const char *what, uint32_t *ret, struct err *err)
{
        struct in_addr a;

        if (!text || inet_pton(AF_INET, text, &a) != 1)
                return err_set(err, -EINVAL, "network %s: \"%s\" is not an IPv4 address", what,
                               text ? text : "");
        *ret = ntohl(a.s_addr);
        return 0;
}

static const char *address_text(uint32_t address, char ret[INET_ADDRSTRLEN])
{
        struct in_addr a = {.s_addr = htonl(address)};

        return inet_ntop(AF_INET, &a, ret, INET_ADDRSTRLEN);
}

/* "10.77.0.0/16" */
static int range_parse(const char *text, uint32_t *ret_base, unsigned *ret_prefix, struct err *err)
{
        char address[INET_ADDRSTRLEN];
        size_t n = text ? strcspn(text, "/") : 0;
        char *end;
        unsigned long prefix;

        if (!text || text[n] != '/' || n >= sizeof(address))
                return err_set(err, -EINVAL, "network range: \"%s\" is not ADDRESS/PREFIX",
                               text ? text : "");
        memcpy(address, text, n);
        address[n] = '\0';
        prefix = strtoul(text + n + 1, &end, 10);
        if (*end || end == text + n + 1 || prefix < 8 || prefix > 30)
                return err_set(err, -EINVAL, "network range: \"%s\": the prefix is not 8 to 30", text);
        *ret_prefix = (unsigned)prefix;
        return address_parse(address, "range", ret_base, err);
}

static int inside_check(uint32_t address, uint32_t base, unsigned prefix, const char *what, struct err *err)
{
        uint32_t mask = ~0U << (32 - prefix), host = address & ~mask;
        char text[INET_ADDRSTRLEN];

        if ((address & mask) == (base & mask) && host != 0 && host != ~mask)
                return 0;
        return err_set(err, -EINVAL, "network %s: %s is no host's address in the range", what,
                       address_text(address, text));
}

static json_t *words(const char *text)
{
        _cleanup_(freep) char *copy = strdup(text ? text : "");
        json_t *list = json_array();
        char *save = NULL;

        for (char *w = copy ? strtok_r(copy, " ,\t", &save) : NULL; w; w = strtok_r(NULL, " ,\t", &save))
                json_array_append_new(list, json_string(w));
        return list;
}

static int conf_check(const struct imaged_network *c, struct err *err)
{
        uint32_t base = 0, first = 0, last = 0, gateway = 0, nameserver = 0;
        _cleanup_(json_decrefpp) json_t *list = words(c->nameservers);
        unsigned prefix = 0;
        json_t *word;
        size_t i;
        int r;

        r = range_parse(c->range, &base, &prefix, err);
        if (r == 0)
                r = address_parse(c->first, "first", &first, err);
        if (r == 0)
                r = inside_check(first, base, prefix, "first", err);
        if (r == 0)
                r = address_parse(c->last, "last", &last, err);
        if (r == 0)
                r = inside_check(last, base, prefix, "last", err);
        if (r == 0 && first > last)
                r = err_set(err, -EINVAL, "network: first %s is behind last %s", c->first, c->last);
        if (r == 0 && c->gateway && c->gateway[0]) {
                r = address_parse(c->gateway, "gateway", &gateway, err);
                if (r == 0)
                        r = inside_check(gateway, base, prefix, "gateway", err);
        }
        json_array_foreach (list, i, word) {
                if (r == 0)
                        r = address_parse(json_string_value(word), "nameservers", &nameserver, err);
        }
        return r;
}

int network_prepare(struct imaged *im, const struct imaged_network *c, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        const char *gateway = c->gateway && c->gateway[0] ? c->gateway : NULL;
        int r;

        r = records_load(im->store, RECORD_NETWORK, NETWORK_DEFAULT, &record, NULL, NULL);
        if (r == 0)
                return 0;
        r = conf_check(c, err);
        if (r < 0)
                return r;
        record = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s?,s:o,s:{}}", "id", NETWORK_DEFAULT, "bridge", c->bridge,
                           "range", c->range, "first", c->first, "last", c->last, "gateway", gateway,
                           "nameservers", words(c->nameservers), "leases");
        r = records_save(im->store, RECORD_NETWORK, NETWORK_DEFAULT, 0, record, NULL, err);
        return r == -ESTALE ? 0 : r; /* another imaged made it */
}

/* --- addresses --- */

struct lease_change {
        const char *network, *instance;
        char address[INET_ADDRSTRLEN];
        json_t *ret;
};

static const char *lease_of(const json_t *leases, const char *instance)
{
        const char *address;
        json_t *holder;

        json_object_foreach ((json_t *)leases, address, holder) {
                if (streq(json_string_value(holder), instance))
                        return address;
        }
        return NULL;
}

/* A lease is the instance's id; where it is held for a guest that may live, the numbers of the hosts. */
static bool any_held(const json_t *leases)
{
        const char *address;
        json_t *holder;

        json_object_foreach ((json_t *)leases, address, holder) {
                if (json_is_array(holder))
                        return true;
        }
        return false;
}

static int lease_free_address(json_t *record, struct lease_change *c, struct err *err)
{
        const json_t *leases = json_object_get(record, "leases");
        uint32_t first = 0, last = 0, gateway = 0;
        int r;

        r = address_parse(json_get_str(record, "first", NULL), "first", &first, err);
        if (r == 0)
                r = address_parse(json_get_str(record, "last", NULL), "last", &last, err);
        if (r < 0)
                return r;
        if (json_get_str(record, "gateway", NULL))
                address_parse(json_get_str(record, "gateway", NULL), "gateway", &gateway, NULL);
        for (uint32_t a = first; a <= last && a >= first; a++) {
                if (a != gateway && !json_object_get(leases, address_text(a, c->address)))
                        return 0;
        }
        return err_set(
            err, -ENOSPC, "network %s: no address is free, all %zu from %s to %s are leased%s", c->network,
            json_object_size(leases), json_get_str(record, "first", ""), json_get_str(record, "last", ""),
            any_held(leases) ? " or held, since hosts are away on which their guests may live" : "");
}

static int lease_describe(json_t *record, struct lease_change *c, struct err *err)
{
        json_t *nameservers = json_object_get(record, "nameservers");
        uint32_t base = 0, address = 0;
        unsigned prefix = 0;
        char mac[18];
        int r;

        r = range_parse(json_get_str(record, "range", NULL), &base, &prefix, err);
        if (r == 0)
                r = address_parse(c->address, "lease", &address, err);
        if (r < 0)
                return r;
        /* an address is there once in a network, so is a MAC that is made of it */
        snprintf(mac, sizeof(mac), "52:54:00:%02x:%02x:%02x", address >> 16 & 255, address >> 8 & 255,
                 address & 255);
        json_decref(c->ret);
        c->ret = json_pack("{s:s,s:s,s:s,s:i,s:s?,s:O}", "network", c->network, "mac", mac, "address",
                           c->address, "prefix", (int)prefix, "gateway",
                           json_get_str(record, "gateway", NULL), "nameservers", nameservers);
        return c->ret ? 0 : err_set(err, -EIO, "network %s: its record is damaged", c->network);
}

static int change_lease(json_t *record, void *arg, struct err *err)
{
        struct lease_change *c = arg;
        json_t *leases = json_object_get(record, "leases");
        const char *mine = lease_of(leases, c->instance);
        int r;

        if (mine) { /* again after a lost reply */
                snprintf(c->address, sizeof(c->address), "%s", mine);
                r = lease_describe(record, c, err);
                return r < 0 ? r : 1;
        }
        if (json_object_size(leases) >= LEASES_MAX)
                return err_set(err, -ENOSPC,
                               "network %s: %d addresses are leased, which is the limit of a network",
                               c->network, LEASES_MAX);
        r = lease_free_address(record, c, err);
        if (r == 0)
                r = lease_describe(record, c, err);
        if (r == 0)
                json_object_set_new(leases, c->address, json_string(c->instance));
        return r;
}

int network_lease(struct imaged *im, const char *network, const char *instance, json_t **ret,
                  struct err *err)
{
        struct lease_change c = {.network = network, .instance = instance};
        int r = records_change(im->store, RECORD_NETWORK, network, change_lease, &c, NULL, err);

        if (r < 0)
                json_decref(c.ret);
        else
                *ret = c.ret;
        return r;
}

static int change_release(json_t *record, void *arg, struct err *err)
{
        json_t *leases = json_object_get(record, "leases");
        const char *address = lease_of(leases, arg);

        return address ? json_object_del(leases, address) : 1;
}

int network_release(struct imaged *im, const char *network, const char *instance, struct err *err)
{
        return records_change(im->store, RECORD_NETWORK, network, change_release, (void *)instance, NULL,
                              err);
}

struct retirement {
        const char *instance;
        const json_t *hosts;
};

static int change_retire(json_t *record, void *arg, struct err *err)
{
        const struct retirement *t = arg;
        json_t *leases = json_object_get(record, "leases");
        const char *address = lease_of(leases, t->instance);

        (void)err;
        return address ? json_object_set(leases, address, (json_t *)t->hosts) : 1;
}

int network_retire(struct imaged *im, const char *network, const char *instance, const json_t *hosts,
                   struct err *err)
{
        struct retirement t = {.instance = instance, .hosts = hosts};

        if (json_array_size(hosts) == 0)
                return network_release(im, network, instance, err);
        log_info("network %s: the address of %s is held: hosts on which its guest may live are away",
                 network, instance);
        return records_change(im->store, RECORD_NETWORK, network, change_retire, &t, NULL, err);
}

bool network_unsettled(struct imaged *im, unsigned host)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        char id[12];
        int r;

        if (!im->hosts)
                return false;
        /* The record, since what this imaged knows of the hosts may be older than a take-over. */
        snprintf(id, sizeof(id), "%u", host);
        r = records_load(im->store, RECORD_HOST, id, &record, NULL, NULL);
        if (r == -ENOENT)
                return false;
        return r < 0 || !streq(json_get_str(record, "state", "up"), "up") || !hosts_alive(im->hosts, host);
}

static bool still_held(struct imaged *im, const json_t *holder)
{
        const json_t *host;
        size_t i;

        json_array_foreach (holder, i, host) {
                if (network_unsettled(im, (unsigned)json_integer_value(host)))
                        return true;
        }
        return false;
}

static int change_unhold(json_t *record, void *arg, struct err *err)
{
        json_t *leases = json_object_get(record, "leases");

        (void)err;
        return json_is_array(json_object_get(leases, arg)) ? json_object_del(leases, arg) : 1;
}

/* 1: there is none, for good. That one was in a list a moment ago will do to leave it alone. */
static int instance_gone(struct imaged *im, const char *instance, bool listed_will_do)
{
        _cleanup_(freep) char *text = NULL;

        if (listed_will_do && im->index && index_has(im->index, instance))
                return 0;
        return record_get(im->store, RECORD_INSTANCE, instance, &text, NULL, NULL) == -ENOENT;
}

int network_sweep(struct imaged *im, const char *network, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        const char *address;
        json_t *holder;
        int r;

        r = records_load(im->store, RECORD_NETWORK, network, &record, NULL, err);
        if (r < 0)
                return r;
        json_object_foreach (json_object_get(record, "leases"), address, holder) {
                if (json_is_array(holder)) {
                        r = still_held(im, holder)
                                ? 0
                                : records_change(im->store, RECORD_NETWORK, network, change_unhold,
                                                 (void *)address, NULL, err);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (instance_gone(im, json_string_value(holder), true) != 1)
                        continue;
                log_info("network %s: %s is free, its instance %s is gone", network, address,
                         json_string_value(holder));
                r = network_release(im, network, json_string_value(holder), err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- names --- */

static void name_id(const char *name, char ret[65])
{
        snprintf(ret, 65, "_%s", name);
}

int name_find(struct imaged *im, const char *name, char ret_instance[UUID_LEN + 1], struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        char id[65];
        int r;

        name_id(name, id);
        r = records_load(im->store, RECORD_NETWORK, id, &record, NULL, err);
        if (r == 0)
                snprintf(ret_instance, UUID_LEN + 1, "%s", json_get_str(record, "instance", ""));
        return r;
}

int name_take(struct imaged *im, const char *name, const char *instance, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *mine = NULL;
        char id[65];

        name_id(name, id);
        mine = json_pack("{s:s,s:s}", "id", id, "instance", instance);
        for (;;) {
                _cleanup_(json_decrefpp) json_t *other = NULL;
                uint64_t version = 0;
                const char *holder;
                int r = records_load(im->store, RECORD_NETWORK, id, &other, &version, err);

                if (r < 0 && r != -ENOENT)
                        return r;
                holder = json_get_str(other, "instance", NULL);
                if (streq(holder, instance))
                        return 0;
                if (holder && instance_gone(im, holder, false) != 1)
                        return err_set(err, -EEXIST, "the name %s is taken by instance %s", name, holder);
                r = records_save(im->store, RECORD_NETWORK, id, version, mine, NULL, err);
                if (r != -ESTALE)
                        return r;
                /* somebody else took or freed it just now: look again. The loop ends, since somebody has it
                 * then */
        }
}

int name_release(struct imaged *im, const char *name, const char *instance, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        uint64_t version;
        char id[65];
        int r;

        name_id(name, id);
        r = records_load(im->store, RECORD_NETWORK, id, &record, &version, err);
        if (r == -ENOENT || (r == 0 && !streq(json_get_str(record, "instance", NULL), instance)))
                return 0;
        if (r == 0)
                r = records_save(im->store, RECORD_NETWORK, id, version, NULL, NULL, err);
        return r == -ESTALE ? 0 : r;
}

static int sweep_one(void *arg, const char *id, uint64_t version, json_t *record)
{
        struct imaged *im = arg;
        const char *holder = json_get_str(record, "instance", NULL);
        struct err err = {0};

        if (id[0] != '_' || !holder || instance_gone(im, holder, true) != 1)
                return 0;
        log_info("name %s is free, its instance %s is gone", id + 1, holder);
        if (records_save(im->store, RECORD_NETWORK, id, version, NULL, NULL, &err) < 0 &&
            err.code != -ESTALE)
                log_warn("%s", err_text(&err));
        return 0;
}

int name_sweep(struct imaged *im, struct err *err)
{
        return records_each(im->store, RECORD_NETWORK, sweep_one, im, err);
}
