/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/image-system.h"

#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "common/json.h"
#include "common/log.h"
#include "imaged/daemon.h"
#include "imaged/image.h"

struct look {
        struct imaged *im;
        struct volume *volume;
};

static int look_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct look *l = state;

        if (l->im->stopping)
                return err_set(err, -ECANCELED, "this imaged is being stopped");
        return volume_read(l->volume, buf, len, offset, err);
}

static int place_take(struct imaged *im, struct err *err)
{
        struct timespec end;
        int r;

        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_sec += OSINFO_TIME_MS / 1000;
        do
                r = sem_clockwait(&im->looks, CLOCK_MONOTONIC, &end);
        while (r < 0 && errno == EINTR);
        return r < 0 ? err_set(err, -EBUSY, "too many images are being looked at") : 0;
}

int image_system_find(struct imaged *im, const char *image, struct volume *volume, bool iso,
                      struct osinfo *ret)
{
        struct look look = {.im = im, .volume = volume};
        struct source disk = {.size = volume_size(volume), .read = look_read, .state = &look};
        struct err err = {0};
        int r = place_take(im, &err);

        if (r == 0) {
                r = osinfo_find(&disk, iso, ret, &err);
                sem_post(&im->looks);
        }
        if (r == -EOPNOTSUPP)
                log_debug("image %s: its system is not looked for: %s", image, err_text(&err));
        else if (r < 0)
                log_warn("image %s: its system is not known: %s", image, err_text(&err));
        return r == 0 && !osinfo_empty(ret);
}

/* Unless somebody said it. */
static void property_add(json_t *record, const char *key, const char *text)
{
        unsigned properties = 0;
        const char *name;
        json_t *value;

        json_object_foreach (record, name, value)
                properties += !image_is_base(name);
        if (text[0] && !json_object_get(record, key) && properties < IMAGE_PROPERTIES_MAX)
                json_object_set_new(record, key, json_string(text));
}

static void least_set(json_t *record, const char *key, uint32_t value)
{
        if (value > 0 && json_get_int(record, key, 0) == 0)
                json_object_set_new(record, key, json_integer(value));
}

void image_system_set(json_t *record, const struct osinfo *o)
{
        const char *os = json_get_str(record, "os", json_get_str(record, "os_distro", NULL));
        bool version = json_object_get(record, "version") || json_object_get(record, "os_version");

        json_object_set_new(record, "detected", osinfo_json(o));
        if (!os || streq(os, o->distro)) {
                if (!os)
                        property_add(record, "os_distro", o->distro);
                if (!version)
                        property_add(record, "os_version", o->version);
                property_add(record, "os_type", o->type);
                least_set(record, "min_ram", o->min_ram);
                least_set(record, "min_disk", o->min_disk);
        }
        if (!json_object_get(record, "hw_architecture"))
                property_add(record, "architecture", o->architecture);
        if (o->bios != o->uefi) /* either will do where both can */
                property_add(record, "hw_firmware_type", osinfo_firmware(o));
}
