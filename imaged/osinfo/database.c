/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <osinfo/osinfo.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "imaged/osinfo/helper.h"

#define VERSION_KNOWN 1000u /* version_match(): and not only that it is newer than the database */

/* libosinfo. Its media are matched by an ISO's identifiers alone: it reads nothing of the ISO itself. */

static void text_set(char *ret, size_t room, const char *text)
{
        size_t n = 0;

        for (; text && *text && n + 1 < room; text++)
                if (*text >= 0x20 && *text < 0x7f)
                        ret[n++] = *text;
        ret[n] = '\0';
}

static OsinfoLoader *database_load(OsinfoDb **ret, struct err *err)
{
        OsinfoLoader *loader = osinfo_loader_new();
        GError *e = NULL;

        osinfo_loader_process_default_path(loader, &e);
        if (e) {
                err_set(err, -EIO, "libosinfo's database: %s", e->message);
                g_error_free(e);
                g_object_unref(loader);
                return NULL;
        }
        *ret = osinfo_loader_get_db(loader);
        return loader;
}

/* Those of the architecture, or of all. */
static void resources_fill(OsinfoOs *os, struct osinfo *o)
{
        OsinfoResourcesList *list = osinfo_os_get_minimum_resources(os);

        for (int i = 0; i < osinfo_list_get_length(OSINFO_LIST(list)); i++) {
                OsinfoResources *r = OSINFO_RESOURCES(osinfo_list_get_nth(OSINFO_LIST(list), i));
                const char *architecture = osinfo_resources_get_architecture(r);
                gint64 ram = osinfo_resources_get_ram(r), storage = osinfo_resources_get_storage(r);

                if (!streq(architecture, "all") && !streq(architecture, o->architecture))
                        continue;
                if (ram > 0)
                        o->min_ram = (uint32_t)((ram + (1 << 20) - 1) >> 20);
                if (storage > 0)
                        o->min_disk = (uint32_t)((storage + (1 << 30) - 1) >> 30);
                if (streq(architecture, o->architecture))
                        break;
        }
        g_object_unref(list);
}

/* libosinfo's word for Windows is "win", that of the image API's properties is "windows". */
static void os_fill(OsinfoOs *os, struct osinfo *o)
{
        const char *family = osinfo_os_get_family(os), *distro = osinfo_os_get_distro(os);
        bool windows = streq(distro, "win") || streq(distro, "winnt");

        text_set(o->id, sizeof(o->id), osinfo_product_get_short_id(OSINFO_PRODUCT(os)));
        text_set(o->name, sizeof(o->name), osinfo_product_get_name(OSINFO_PRODUCT(os)));
        text_set(o->version, sizeof(o->version), osinfo_product_get_version(OSINFO_PRODUCT(os)));
        text_set(o->distro, sizeof(o->distro), windows ? "windows" : distro);
        text_set(o->type, sizeof(o->type), windows ? "windows" : streq(family, "linux") ? "linux" : "");
        resources_fill(os, o);
}

static void param_set(OsinfoMedia *media, const char *name, const char *value)
{
        if (value[0])
                osinfo_entity_set_param(OSINFO_ENTITY(media), name, value);
}

int database_media(const struct iso_probe *iso, struct osinfo *o, struct err *err)
{
        OsinfoDb *db;
        OsinfoLoader *loader = database_load(&db, err);
        OsinfoMedia *media;
        OsinfoOs *os;

        if (!loader)
                return -EIO;
        media = osinfo_media_new("iso", NULL);
        param_set(media, OSINFO_MEDIA_PROP_VOLUME_ID, iso->volume);
        param_set(media, OSINFO_MEDIA_PROP_SYSTEM_ID, iso->system);
        param_set(media, OSINFO_MEDIA_PROP_PUBLISHER_ID, iso->publisher);
        param_set(media, OSINFO_MEDIA_PROP_APPLICATION_ID, iso->application);
        osinfo_entity_set_param_int64(OSINFO_ENTITY(media), OSINFO_MEDIA_PROP_VOLUME_SIZE,
                                      (gint64)iso->volume_size);
        if (osinfo_db_identify_media(db, media)) {
                os = osinfo_media_get_os(media);
                text_set(o->architecture, sizeof(o->architecture), osinfo_media_get_architecture(media));
                if (streq(o->architecture, "all"))
                        o->architecture[0] = '\0';
                os_fill(os, o);
                g_object_unref(os);
        }
        g_object_unref(media);
        g_object_unref(loader);
        return 0;
}

/*
 * os-release(5) and libosinfo call a few distributions by other names, and SUSE's have another from some
 * version on. Amazon Linux ("amzn") is not in libosinfo's database under any.
 */
static const struct name {
        const char *id, *distro;
        const char *later;   /* the distribution's name where `distro` does not have the version */
        const char *version; /* of one whose own is but a date */
} names[] = {{"alpine", "alpinelinux", NULL, NULL},
             {"arch", "archlinux", NULL, NULL},
             {"opensuse-leap", "opensuse", NULL, NULL},
             {"opensuse-tumbleweed", "opensuse", NULL, "tumbleweed"},
             {"sles", "sles", "sle", NULL},
             {"sled", "sled", "sle", NULL},
             {"sle-micro", "slem", NULL, NULL},
             {"pop", "popos", NULL, NULL},
             {"void", "voidlinux", NULL, NULL},
             {"elementary", "elementaryos", NULL, NULL},
             {"clear-linux-os", "clearlinux", NULL, NULL}};

static struct name name_of(const char *id)
{
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (streq(id, names[i].id))
                        return names[i];
        return (struct name){.id = id, .distro = id};
}

/*
 * How well they match, 0: not at all. Best is the same version, or the longest that this one is a minor
 * version of: 8.9 is 8, where 8.9 is not known. Then the "8-unknown" and the "unknown" that the database has
 * for what is newer than itself.
 */
static size_t version_match(const char *version, const char *known)
{
        const char *unknown = known ? strstr(known, "unknown") : NULL;
        size_t n = known ? strlen(known) : 0;

        if (!version[0] || n == 0)
                return 0;
        if (unknown == known)
                return 1;
        if (unknown)
                n = (size_t)(unknown - known) - 1;
        if (strncmp(version, known, n) != 0 || (version[n] != '\0' && version[n] != '.'))
                return 0;
        return unknown ? 1 + n : VERSION_KNOWN + n;
}

/* "fedora37", where "silverblue37" is of the same distribution and version. */
static bool is_plain(OsinfoOs *os, const char *distro)
{
        const char *id = osinfo_product_get_short_id(OSINFO_PRODUCT(os));
        size_t n = strlen(distro);

        return id && strncmp(id, distro, n) == 0 &&
               (isdigit((unsigned char)id[n]) || streq(id + n, "-unknown"));
}

static OsinfoOs *best_of(OsinfoOsList *list, const char *distro, const char *version, size_t *ret_match)
{
        OsinfoOs *best = NULL;

        *ret_match = 0;
        for (int i = 0; i < osinfo_list_get_length(OSINFO_LIST(list)); i++) {
                OsinfoOs *os = OSINFO_OS(osinfo_list_get_nth(OSINFO_LIST(list), i));
                size_t n = version_match(version, osinfo_product_get_version(OSINFO_PRODUCT(os)));

                if ((n > *ret_match || (n == *ret_match && n > 0 && is_plain(os, distro))) &&
                    streq(osinfo_os_get_distro(os), distro)) {
                        best = os;
                        *ret_match = n;
                }
        }
        return best;
}

int database_release(const struct os_release *release, struct osinfo *o, struct err *err)
{
        struct name name = name_of(release->id);
        const char *version = name.version ? name.version : release->version_id;
        OsinfoDb *db;
        OsinfoLoader *loader = database_load(&db, err);
        OsinfoOsList *list;
        OsinfoOs *best;
        size_t match;

        if (!loader)
                return -EIO;
        list = osinfo_db_get_os_list(db);
        best = best_of(list, name.distro, version, &match);
        if (!best && name.later) {
                best = best_of(list, name.later, version, &match);
                if (best)
                        name.distro = name.later;
        }
        if (best)
                os_fill(best, o);
        if (best && match < VERSION_KNOWN && release->name[0])
                text_set(o->name, sizeof(o->name), release->name); /* not "Fedora Unknown" */
        text_set(o->distro, sizeof(o->distro), name.distro);
        text_set(o->version, sizeof(o->version), release->version_id);
        text_set(o->type, sizeof(o->type), "linux");
        g_object_unref(list);
        g_object_unref(loader);
        return 0;
}
