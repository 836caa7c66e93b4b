/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/osinfo/osinfo.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"

#define TEXT(member, words)                                                                                 \
        {                                                                                                   \
#member, offsetof(struct osinfo, member), sizeof(((struct osinfo *)0)->member), words       \
        }

/* words: letters and blanks too; else what stands in names of OpenStack's properties. */
static const struct text {
        const char *name;
        size_t at, room;
        bool words;
} texts[] = {TEXT(id, false),   TEXT(name, true),          TEXT(distro, false), TEXT(version, false),
             TEXT(type, false), TEXT(architecture, false), TEXT(from, false)};

bool osinfo_empty(const struct osinfo *o)
{
        return !o->distro[0] && !o->architecture[0] && !o->bios && !o->uefi;
}

const char *osinfo_firmware(const struct osinfo *o)
{
        return o->bios && o->uefi ? "bios, uefi" : o->bios ? "bios" : o->uefi ? "uefi" : "";
}

json_t *osinfo_json(const struct osinfo *o)
{
        json_t *j = json_object(), *firmware = json_array();

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                const char *text = (const char *)o + texts[i].at;

                if (text[0])
                        json_object_set_new(j, texts[i].name, json_string(text));
        }
        if (o->bios)
                json_array_append_new(firmware, json_string("bios"));
        if (o->uefi)
                json_array_append_new(firmware, json_string("uefi"));
        json_object_set_new(j, "firmware", firmware);
        if (o->min_ram)
                json_object_set_new(j, "min_ram", json_integer(o->min_ram));
        if (o->min_disk)
                json_object_set_new(j, "min_disk", json_integer(o->min_disk));
        return j;
}

static bool text_fits(const char *text, const struct text *t)
{
        if (strlen(text) >= t->room)
                return false;
        for (; *text; text++) {
                unsigned char c = (unsigned char)*text;

                if (t->words ? c < 0x20 || c > 0x7e : !isalnum(c) && !strchr("._-+", c))
                        return false;
        }
        return true;
}

static int text_parse(const json_t *j, const struct text *t, struct osinfo *o, struct err *err)
{
        const json_t *v = json_object_get(j, t->name);
        const char *text = json_string_value(v);

        if (!v)
                return 0;
        if (!text || strlen(text) != json_string_length(v) || !text_fits(text, t))
                return err_set(err, -EBADMSG, "%s is not a text of that kind", t->name);
        memcpy((char *)o + t->at, text, strlen(text) + 1);
        return 0;
}

static int number_parse(const json_t *j, const char *name, json_int_t max, uint32_t *ret, struct err *err)
{
        const json_t *v = json_object_get(j, name);

        if (!v)
                return 0;
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
                return err_set(err, -EBADMSG, "%s is not a number from 0 to %lld", name, (long long)max);
        *ret = (uint32_t)json_integer_value(v);
        return 0;
}

int osinfo_parse(const json_t *j, struct osinfo *ret, struct err *err)
{
        struct osinfo o = {0};
        const json_t *firmware;
        size_t i;
        int r = json_is_object(j) ? 0 : err_set(err, -EBADMSG, "it is not a JSON object");

        for (i = 0; r == 0 && i < ARRAY_SIZE(texts); i++)
                r = text_parse(j, &texts[i], &o, err);
        if (r == 0)
                r = number_parse(j, "min_ram", 1 << 20, &o.min_ram, err);
        if (r == 0)
                r = number_parse(j, "min_disk", 1 << 14, &o.min_disk, err);
        if (r < 0)
                return r;
        json_array_foreach (json_object_get(j, "firmware"), i, firmware) {
                o.bios = o.bios || streq(json_string_value(firmware), "bios");
                o.uefi = o.uefi || streq(json_string_value(firmware), "uefi");
        }
        *ret = o;
        return 0;
}
