/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <osinfo/osinfo.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "imaged/osinfo/helper.h"

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

/* os-release(5) and libosinfo call a few distributions by other names. */
static const char *distro_of(const char *id)
{
        static const char *const names[][2] = {{"alpine", "alpinelinux"},
                                               {"arch", "archlinux"},
                                               {"opensuse-leap", "opensuse"},
                                               {"opensuse-tumbleweed", "opensuse"},
                                               {"pop", "popos"},
                                               {"void", "voidlinux"},
                                               {"elementary", "elementaryos"},
                                               {"clear-linux-os", "clearlinux"}};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (streq(id, names[i][0]))
                        return names[i][1];
        return id;
}

/* The same version, or the longest that this one is a minor version of: 8.9 is 8, where 8.9 is not known. */
static size_t version_match(const char *version, const char *known)
{
        size_t n = known ? strlen(known) : 0;

        return n > 0 && strncmp(version, known, n) == 0 && (version[n] == '\0' || version[n] == '.') ? n : 0;
}

/* "fedora37", where "silverblue37" is of the same distribution and version. */
static bool is_plain(OsinfoOs *os, const char *distro)
{
        const char *id = osinfo_product_get_short_id(OSINFO_PRODUCT(os));
        size_t n = strlen(distro);

        return id && strncmp(id, distro, n) == 0 && isdigit((unsigned char)id[n]);
}

int database_release(const struct os_release *release, struct osinfo *o, struct err *err)
{
        const char *distro = distro_of(release->id);
        OsinfoDb *db;
        OsinfoLoader *loader = database_load(&db, err);
        OsinfoOsList *list;
        OsinfoOs *best = NULL;
        size_t best_n = 0;

        if (!loader)
                return -EIO;
        list = osinfo_db_get_os_list(db);
        for (int i = 0; i < osinfo_list_get_length(OSINFO_LIST(list)); i++) {
                OsinfoOs *os = OSINFO_OS(osinfo_list_get_nth(OSINFO_LIST(list), i));
                size_t n =
                    version_match(release->version_id, osinfo_product_get_version(OSINFO_PRODUCT(os)));

                if ((n > best_n || (n == best_n && n > 0 && is_plain(os, distro))) &&
                    streq(osinfo_os_get_distro(os), distro)) {
                        best = os;
                        best_n = n;
                }
        }
        if (best)
                os_fill(best, o);
        text_set(o->distro, sizeof(o->distro), distro);
        text_set(o->version, sizeof(o->version), release->version_id);
        text_set(o->type, sizeof(o->type), "linux");
        g_object_unref(list);
        g_object_unref(loader);
        return 0;
}
