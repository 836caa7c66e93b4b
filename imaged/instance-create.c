/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "formats/formats.h"
#include "imaged/events.h"
#include "imaged/hosts.h"
#include "imaged/image.h"
#include "imaged/instance.h"
#include "imaged/network.h"
#include "imaged/place.h"
#include "imaged/records.h"
#include "imaged/spec.h"

#define ULL(v) ((unsigned long long)(v))
#define OWNER "admin"

/*
 * The order in which an instance comes to be. The record is first, so that everything else that names its id
 * can be told from a left-over; the placement is last, so that no host sees it half-made. An imaged that
 * dies in between leaves a record with `creating` that does not move, which any imaged undoes.
 *
 *   host picked, record with `creating`, image still there?, name, address, disks with the seed, wanted
 * "running" + placement
 */
struct creation {
        struct imaged *im;
        const struct caller *caller;
        struct spec spec;
        char id[UUID_LEN + 1], by[UUID_LEN + 1];
        json_t *image; /* the record of spec.image or spec.iso */
        unsigned host;
        bool fixed;      /* the user has named it */
        json_t *network; /* the record's member, once leased */
        json_t *record;  /* as it is in the end */
};

/* A guest of such an image would stand at the BIOS's "no bootable device". Of what nobody knows nothing is
 * said here. */
static int firmware_check(const json_t *image, struct err *err)
{
        const char *firmware = json_get_str(image, "hw_firmware_type", NULL),
                   *id = json_get_str(image, "id", "");

        if (!streq(firmware, "uefi"))
                return 0;
        return err_set(
            err, -EINVAL,
            "image %s (%.60s) boots by UEFI only (its property hw_firmware_type is \"%s\"), and "
            "hosts start instances by BIOS: take an image that boots by BIOS, or, if this one does "
            "after all, say so with \"wherry image set %s --property hw_firmware_type=bios\"",
            id, json_get_str(image, "name", ""), firmware, id);
}

static int image_check(struct creation *c, struct err *err)
{
        const struct spec *s = &c->spec;
        const char *wanted = s->image ? s->image : s->iso, *id, *format;
        uint64_t size, min_disk, min_ram;
        int r;

        r = image_find(c->im, c->caller, wanted, false, &c->image, err);
        if (r < 0)
                return r == -ENOENT ? err_wrap(err, -EINVAL, "%s", s->image ? "image" : "iso") : r;
        id = json_get_str(c->image, "id", "");
        format = json_get_str(c->image, "disk_format", "");
        if (!streq(json_get_str(c->image, "status", NULL), "active"))
                return err_set(err, -EINVAL, "image %s is %s; it has to be active", id,
                               json_get_str(c->image, "status", "unknown"));
        if (s->image && streq(format, "iso"))
                return err_set(err, -EINVAL, "image %s is an ISO; give it as iso, with the size of the disk",
                               id);
        if (s->iso && !streq(format, "iso"))
                return err_set(err, -EINVAL, "image %s is a %s disk, not an ISO; give it as image", id,
                               format);
        r = firmware_check(c->image, err);
        if (r < 0)
                return r;
        size = s->image ? (uint64_t)json_get_int(c->image, "virtual_size", 0) : 0;
        if (c->spec.disk == 0)
                c->spec.disk = (size + 511) / 512 * 512;
        min_disk = (uint64_t)json_get_int(c->image, "min_disk", 0);
        min_ram = (uint64_t)json_get_int(c->image, "min_ram", 0);
        if (s->disk < size)
                return err_set(err, -EINVAL,
                               "disk is %llu bytes, image %s has %llu; the disk has to be at least as large",
                               ULL(s->disk), id, ULL(size));
        if (min_disk < UINT64_MAX >> 30 && s->disk < min_disk << 30)
                return err_set(err, -EINVAL,
                               "disk is %llu bytes, image %s wants at least %llu GiB (min_disk)",
                               ULL(s->disk), id, ULL(min_disk));
        if (min_ram < UINT64_MAX >> 20 && s->memory < min_ram << 20)
                return err_set(err, -EINVAL,
                               "memory is %llu bytes, image %s wants at least %llu MiB (min_ram)",
                               ULL(s->memory), id, ULL(min_ram));
        return 0;
}

/* The one active image that was found may have begun to be deleted before our record was there to be seen.
 */
static int image_recheck(struct creation *c, struct err *err)
{
        const char *id = json_get_str(c->image, "id", "");
        _cleanup_(json_decrefpp) json_t *now = NULL;
        int r = records_load(c->im->store, RECORD_IMAGE, id, &now, NULL, err);

        if (r == -ENOENT || (r == 0 && !streq(json_get_str(now, "status", NULL), "active")))
                return err_set(err, -EINVAL, "image %s is being deleted", id);
        return r;
}

static int host_pick(struct creation *c, struct err *err)
{
        struct placing p = {.id = c->id, .cpus = c->spec.cpus, .memory = c->spec.memory};
        const json_t *host = c->spec.host;
        char number[24];
        int r;

        if (c->spec.group)
                snprintf(p.group, sizeof(p.group), "%s/%s", OWNER, c->spec.group);
        if (host) {
                snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(host));
                r = hosts_number(c->im->hosts, json_is_string(host) ? json_string_value(host) : number,
                                 &p.only, err);
                if (r < 0)
                        return r == -ENOENT ? err_wrap(err, -EINVAL, "host") : r;
                c->fixed = true;
        }
        return place_pick(c->im, &p, &c->host, err);
}

static int record_write(struct creation *c, struct err *err)
{
        const struct spec *s = &c->spec;
        const char *id = json_get_str(c->image, "id", "");
        _cleanup_(json_decrefpp) json_t *record = NULL;
        char at[CLOCK_STAMP_LEN + 1];
        int r;

        clock_stamp(at);
        record = json_pack(
            "{s:s,s:s,s:s,s:s?,s:s,s:s?,s:s?,s:i,s:I,s:I,s:O,s:i,s:s,s:n,s:i,s:b,s:n,s:n,s:n,s:[]}", "id",
            c->id, "name", s->name, "owner", OWNER, "group", s->group, "created", at, "image",
            s->image ? id : NULL, "iso", s->iso ? id : NULL, "cpus", (int)s->cpus, "memory",
            (json_int_t)s->memory, "disk", (json_int_t)s->disk, "ssh_keys", s->ssh_keys, "priority",
            s->priority, "wanted", "stopped", "placement", "restart", 0, "stop_force", 0, "move",
            "migration", "start", "receipts");
        if (!record)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(record, "creating", json_pack("{s:s,s:i}", "by", c->by, "host", (int)c->host));
        json_object_set_new(record, "status",
                            json_pack("{s:s,s:i,s:i,s:s,s:i,s:n,s:n}", "state", "pending", "host", 0,
                                      "epoch", 0, "since", at, "restart", 0, "move", "error"));
        r = records_save(c->im->store, RECORD_INSTANCE, c->id, 0, record, NULL, err);
        return r;
}

/* A NULL-terminated list of the strings in a JSON array; borrowed strings, the list is the caller's. */
static const char **strings(const json_t *array)
{
        const char **list = calloc(json_array_size(array) + 1, sizeof(*list));
        size_t i, n = 0;
        json_t *v;

        json_array_foreach ((json_t *)array, i, v) {
                if (list && json_is_string(v))
                        list[n++] = json_string_value(v);
        }
        return list;
}

static int disks_create(struct creation *c, struct err *err)
{
        _cleanup_(freep) const char **keys = strings(c->spec.ssh_keys);
        _cleanup_(freep) const char **servers = strings(json_object_get(c->network, "nameservers"));
        const struct nocloud nc = {.instance_id = c->id,
                                   .hostname = c->spec.name,
                                   .ssh_keys = keys,
                                   .user_data = c->spec.user_data,
                                   .mac = json_get_str(c->network, "mac", NULL),
                                   .address = json_get_str(c->network, "address", NULL),
                                   .gateway = json_get_str(c->network, "gateway", NULL),
                                   .prefix = (unsigned)json_get_int(c->network, "prefix", 0),
                                   .nameservers = servers};
        struct disk_spec disks[INSTANCE_DISKS] = {
            {.name = "disk0",
             .image = c->spec.image ? json_get_str(c->image, "id", NULL) : NULL,
             .size = c->spec.disk},
            {.name = "seed"}};
        _cleanup_(freep) uint8_t *seed = NULL;
        int r;

        if (!keys || !servers)
                return err_set(err, -ENOMEM, "out of memory");
        r = nocloud_iso(&nc, &seed, &disks[1].n_content, err);
        if (r < 0)
                return err_wrap(err, r, "seed");
        disks[1].content = seed;
        r = lease_create(c->im->store, c->id, disks, INSTANCE_DISKS, err);
        return r < 0 ? err_wrap(err, records_code(r), "disks of %s", c->spec.name) : 0;
}

static int change_complete(json_t *record, void *arg, struct err *err)
{
        struct creation *c = arg;
        const char *by = json_get_str(json_object_get(record, "creating"), "by", NULL);

        if (!json_object_get(record, "creating") &&
            streq(json_get_str(json_object_get(record, "network"), "address", NULL),
                  json_get_str(c->network, "address", "")))
                return 1; /* the reply of the first time got lost */
        if (!streq(by, c->by))
                return err_set(err, -ESTALE,
                               "instance %s took too long to make and was cleaned up; try again",
                               c->spec.name);
        json_object_del(record, "creating");
        json_object_set(record, "network", c->network);
        json_object_set_new(record, "wanted", json_string("running"));
        json_object_set_new(record, "placement", json_pack("{s:i,s:i}", "host", (int)c->host, "epoch", 0));
        if (c->fixed)
                json_object_set_new(json_object_get(record, "placement"), "fixed", json_true());
        return 0;
}

static int complete(struct creation *c, struct err *err)
{
        int r = records_change(c->im->store, RECORD_INSTANCE, c->id, change_complete, c, &c->record, err);

        if (r == -ETIMEDOUT)
                r = records_change(c->im->store, RECORD_INSTANCE, c->id, change_complete, c, &c->record,
                                   err);
        return r;
}

static int create_steps(struct creation *c, struct err *err)
{
        int r;

        r = record_write(c, err);
        if (r == 0)
                r = image_recheck(c, err);
        if (r == 0)
                r = name_take(c->im, c->spec.name, c->id, err);
        if (r == 0)
                r = network_lease(c->im, NETWORK_DEFAULT, c->id, &c->network, err);
        if (r == 0)
                r = disks_create(c, err);
        if (r == 0)
                r = complete(c, err);
        return r;
}

static int create(struct creation *c, struct err *err)
{
        struct err ignored = {0};
        int r, undone;

        uuid_random(c->id);
        uuid_random(c->by);
        r = image_check(c, err);
        if (r == 0)
                r = host_pick(c, err);
        if (r < 0)
                return r;
        r = create_steps(c, err);
        if (r == 0)
                return 0;
        undone = instance_undo(c->im, c->id, c->spec.name, c->by, &ignored);
        if (undone < 0)
                log_warn("instance %s (%s): not cleaned up yet: %s", c->spec.name, c->id,
                         err_text(&ignored));
        return r;
}

int instance_on_create(struct http_request *req, void *userdata, struct err *err)
{
        struct creation c = {.im = userdata, .caller = caller_of(req)};
        _cleanup_(json_decrefpp) json_t *body = NULL;
        int r;

        r = http_body_json(req, &body, err);
        if (r == 0 && !json_object_get(body, "ssh_keys"))
                json_object_set_new(body, "ssh_keys", json_array());
        if (r == 0)
                r = spec_parse(body, &c.spec, err);
        if (r == 0)
                r = create(&c, err);
        if (r == 0) {
                log_info("instance %s (%s): created, for host %u", c.spec.name, c.id, c.host);
                hosts_nudge(c.im->hosts, c.host, c.id);
                event_post(c.im->events, &(struct event){.kind = "instance-created",
                                                         .instance = c.id,
                                                         .name = c.spec.name,
                                                         .host = c.host});
                r = http_reply_json(req, 201, c.record);
        }
        json_decref(c.image);
        json_decref(c.network);
        json_decref(c.record);
        return r;
}

/* --- undo --- */

struct seize {
        const char *by, *mine, *name;
};

static int change_seize(json_t *record, void *arg, struct err *err)
{
        struct seize *s = arg;
        json_t *creating = json_object_get(record, "creating");

        if (!streq(json_get_str(creating, "by", NULL), s->by))
                return err_set(err, -ESTALE, "instance %s is not half-made any more", s->name);
        json_object_set_new(creating, "by", json_string(s->mine));
        return 0;
}

static int record_delete(struct imaged *im, const char *id, const char *by, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        uint64_t version;
        int r = records_load(im->store, RECORD_INSTANCE, id, &record, &version, err);

        if (r == -ENOENT)
                return 0;
        if (r == 0 && !streq(json_get_str(json_object_get(record, "creating"), "by", NULL), by))
                return err_set(err, -ESTALE, "instance %s: somebody else cleans up", id);
        return r < 0 ? r : records_save(im->store, RECORD_INSTANCE, id, version, NULL, NULL, err);
}

int instance_undo(struct imaged *im, const char *id, const char *name, const char *by, struct err *err)
{
        const struct disk_spec disks[INSTANCE_DISKS] = {{.name = "disk0"}, {.name = "seed"}};
        char mine[UUID_LEN + 1];
        struct seize s = {.by = by, .mine = mine, .name = name};
        struct lease lease;
        int r;

        uuid_random(mine);
        /* From here on a late completion fails. Without a record there is nothing to fear: ids do not come
         * back. */
        r = records_change(im->store, RECORD_INSTANCE, id, change_seize, &s, NULL, err);
        if (r < 0 && r != -ENOENT)
                return r;
        r = lease_find(im->store, id, &lease, err);
        if (r == 0 && lease.host != 0)
                return err_set(err, -EBUSY, "instance %s: host %u owns its disks", id, lease.host);
        if (r == 0)
                r = lease_remove(im->store, id, &lease, disks, INSTANCE_DISKS, err);
        if (r < 0 && r != -ENOENT)
                return err_wrap(err, records_code(r), "disks of %s", name);
        r = network_release(im, NETWORK_DEFAULT, id, err);
        if (r == 0)
                r = name_release(im, name, id, err);
        return r < 0 ? r : record_delete(im, id, mine, err);
}
