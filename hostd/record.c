/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"

#define RECORD_TRIES 50 /* another writer won that many times in a row: something is wrong */

int record_load(struct store *s, enum record_kind kind, const char *id, json_t **ret, uint64_t *ret_version,
                struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        uint64_t version;
        int r;

        r = record_get(s, kind, id, &text, &version, err);
        if (r < 0)
                return r;
        r = json_parse(text, id, ret, err);
        if (r < 0)
                return r;
        if (ret_version)
                *ret_version = version;
        return 0;
}

/* edit, put; -ESTALE: the record is no longer at that version. */
static int change_once(struct store *s, enum record_kind kind, const char *id, json_t *doc, uint64_t version,
                       record_edit edit, void *arg, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        int r = edit(doc, arg, err);

        if (r <= 0)
                return r;
        text = json_text(doc);
        if (!text)
                return err_set(err, -ENOMEM, "%s %s: out of memory", record_kind_name(kind), id);
        return record_put(s, kind, id, version, text, &version, err);
}

int record_change(struct store *s, enum record_kind kind, const char *id, record_edit edit, void *arg,
                  struct err *err)
{
        for (int i = 0; i < RECORD_TRIES; i++) {
                _cleanup_(json_decrefpp) json_t *doc = NULL;
                uint64_t version;
                int r;

                r = record_load(s, kind, id, &doc, &version, err);
                if (r < 0)
                        return r;
                r = change_once(s, kind, id, doc, version, edit, arg, err);
                if (r != -ESTALE)
                        return r;
        }
        return err_set(err, -ESTALE, "%s %s: changed by others %d times in a row", record_kind_name(kind),
                       id, RECORD_TRIES);
}

static void start_from_json(const json_t *j, struct start *ret)
{
        memset(ret, 0, sizeof(*ret));
        snprintf(ret->id, sizeof(ret->id), "%.36s", json_get_str(j, "id", ""));
        ret->uid = (uint32_t)json_get_int(j, "uid", 0);
        ret->gid = (uint32_t)json_get_int(j, "gid", 0);
}

json_t *start_to_json(const struct start *start, uint64_t epoch)
{
        return json_pack("{s:s,s:I,s:I,s:I}", "id", start->id, "uid", (json_int_t)start->uid, "gid",
                         (json_int_t)start->gid, "epoch", (json_int_t)epoch);
}

static int wanted_parse(const char *name)
{
        if (streq(name, "running"))
                return WANTED_RUNNING;
        if (streq(name, "stopped"))
                return WANTED_STOPPED;
        if (streq(name, "deleted"))
                return WANTED_DELETED;
        return -EINVAL;
}

static void read_status(const json_t *doc, struct instance *i)
{
        const json_t *status = json_object_get(doc, "status");

        i->state = json_get_str(status, "state", "");
        i->reason = json_get_str(status, "reason", "");
        i->error = json_get_str(status, "error", "");
        i->tries = (unsigned)json_get_int(status, "tries", 0);
        i->state_host = (unsigned)json_get_int(status, "host", 0);
        i->state_epoch = (uint64_t)json_get_int(status, "epoch", 0);
        i->restart_done = json_get_int(status, "restart", 0);
        i->move_serial_done = json_get_int(json_object_get(status, "move"), "serial", 0);
}

static void read_moves(const json_t *doc, struct instance *i)
{
        const json_t *placement = json_object_get(doc, "placement"), *move = json_object_get(doc, "move");
        const json_t *entry = json_object_get(doc, "migration"), *start = json_object_get(doc, "start");

        i->placement_host = (unsigned)json_get_int(placement, "host", 0);
        i->placement_epoch = (uint64_t)json_get_int(placement, "epoch", 0);
        i->move_to = (unsigned)json_get_int(move, "to", 0);
        i->move_epoch = (uint64_t)json_get_int(move, "epoch", 0);
        i->move_serial = json_get_int(move, "serial", 0);
        snprintf(i->entry_attempt, sizeof(i->entry_attempt), "%.36s", json_get_str(entry, "attempt", ""));
        i->entry_source = (unsigned)json_get_int(entry, "source", 0);
        i->entry_destination = (unsigned)json_get_int(entry, "destination", 0);
        i->entry_epoch = (uint64_t)json_get_int(entry, "epoch", 0);
        start_from_json(json_object_get(entry, "start"), &i->entry_start);
        i->arrived = json_get_str(doc, "arrived", "");
        start_from_json(start, &i->start);
        i->start_epoch = (uint64_t)json_get_int(start, "epoch", 0);
        i->start_boot = json_get_str(start, "boot", "");
}

int instance_from_json(json_t *doc, struct instance *ret, struct err *err)
{
        struct instance i = {.doc = doc};
        const json_t *network = json_object_get(doc, "network");
        const char *wanted = json_get_str(doc, "wanted", ""), *group;
        int w = wanted_parse(wanted);

        i.id = json_get_str(doc, "id", "");
        i.name = json_get_str(doc, "name", i.id);
        i.image = json_get_str(doc, "image", NULL);
        i.iso = json_get_str(doc, "iso", NULL);
        i.mac = json_get_str(network, "mac", NULL);
        i.address = json_get_str(network, "address", NULL);
        i.cpus = (unsigned)json_get_int(doc, "cpus", 0);
        i.memory = (uint64_t)json_get_int(doc, "memory", 0);
        i.disk = (uint64_t)json_get_int(doc, "disk", 0);
        i.priority = (int)json_get_int(doc, "priority", 0);
        group = json_get_str(doc, "group", "");
        if (group[0])
                snprintf(i.group, sizeof(i.group), "%.79s/%.79s", json_get_str(doc, "owner", ""), group);
        i.stop_force = json_get_bool(doc, "stop_force", false);
        i.restart = json_get_int(doc, "restart", 0);
        read_status(doc, &i);
        read_moves(doc, &i);
        if (!uuid_valid(i.id) || w < 0 || i.cpus == 0 || i.memory == 0) {
                int r = err_set(err, -EBADMSG,
                                "instance record \"%.40s\": wanted \"%.16s\", cpus %u, memory %llu: damaged",
                                i.id, wanted, i.cpus, (unsigned long long)i.memory);
                json_decref(doc);
                return r;
        }
        i.wanted = (enum wanted)w;
        *ret = i;
        return 0;
}

int instance_load(struct store *s, const char *id, struct instance *ret, struct err *err)
{
        json_t *doc = NULL;
        uint64_t version;
        int r;

        r = record_load(s, RECORD_INSTANCE, id, &doc, &version, err);
        if (r < 0)
                return r;
        r = instance_from_json(doc, ret, err);
        if (r == 0)
                ret->version = version;
        return r;
}

int instance_change(struct store *s, const struct instance *i, record_edit edit, void *arg, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *doc = json_deep_copy(i->doc);
        int r;

        if (!doc)
                return err_set(err, -ENOMEM, "instance %s: out of memory", i->id);
        r = change_once(s, RECORD_INSTANCE, i->id, doc, i->version, edit, arg, err);
        return r == -ESTALE ? record_change(s, RECORD_INSTANCE, i->id, edit, arg, err) : r;
}

bool instance_told_off(const struct instance *i, const struct lease *lease)
{
        return i->doc && (strcmp(i->state, "stopped") == 0 || strcmp(i->state, "pending") == 0) &&
               i->state_host == lease->host && i->state_epoch == lease->epoch;
}

void instance_done(struct instance *i)
{
        json_decref(i->doc);
        memset(i, 0, sizeof(*i));
}

size_t instance_disks(const struct instance *i, struct disk_spec ret[INSTANCE_DISKS])
{
        ret[0] = (struct disk_spec){.name = "disk0", .image = i->image, .size = i->disk};
        /* content says that it is a small read-only disk; its bytes were written at creation and are not
         * needed here */
        ret[1] = (struct disk_spec){.name = "seed", .content = "", .n_content = 0};
        return INSTANCE_DISKS;
}
