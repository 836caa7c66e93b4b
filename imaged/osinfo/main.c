/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/osinfo/helper.h"
#include "imaged/osinfo/wire.h"

/*
 * wherry-osinfo: says which operating system is on a disk or an ISO. Its caller is osinfo_find(), over the
 * socket that is its standard input; wire.h has the protocol.
 */

static void efi_note(const struct efi *efi, struct osinfo *o)
{
        static const struct {
                enum efi_loader loader;
                const char *architecture;
        } all[] = {{EFI_LOADER_X64, "x86_64"},
                   {EFI_LOADER_AA64, "aarch64"},
                   {EFI_LOADER_ARM, "armv7l"},
                   {EFI_LOADER_IA32, "i686"}};

        o->uefi = o->uefi || efi->loaders != 0;
        for (size_t i = 0; !o->architecture[0] && i < ARRAY_SIZE(all); i++)
                if (efi->loaders & all[i].loader) {
                        snprintf(o->architecture, sizeof(o->architecture), "%s", all[i].architecture);
                        snprintf(o->from, sizeof(o->from), "loader");
                }
}

/* Whose boot loader it is, by the folder where each keeps its own: the system without its version. */
static void vendor_note(const struct efi *efi, struct osinfo *o)
{
        static const char *const vendors[][3] = {
            {"debian", "debian", "linux"},      {"ubuntu", "ubuntu", "linux"},
            {"fedora", "fedora", "linux"},      {"centos", "centos", "linux"},
            {"redhat", "rhel", "linux"},        {"rocky", "rocky", "linux"},
            {"almali~1", "almalinux", "linux"}, {"opensuse", "opensuse", "linux"},
            {"sles", "sles", "linux"},          {"micros~1", "windows", "windows"}};

        for (size_t i = 0; i < efi->n_vendors; i++)
                for (size_t k = 0; !o->distro[0] && k < ARRAY_SIZE(vendors); k++)
                        if (streq(efi->vendors[i], vendors[k][0])) {
                                snprintf(o->distro, sizeof(o->distro), "%s", vendors[k][1]);
                                snprintf(o->type, sizeof(o->type), "%s", vendors[k][2]);
                                snprintf(o->from, sizeof(o->from), "loader");
                        }
}

/* The database has a "fedora-unknown" and a "rhel9-unknown" for what is newer than itself: the version is on
 * the ISO. */
static void version_complete(const char *volume, struct osinfo *o)
{
        char *unknown = strstr(o->version, "unknown");
        struct osinfo named = *o;

        if (!unknown)
                return;
        if (volume_id_parse(volume, &named) && streq(named.distro, o->distro)) {
                memcpy(o->version, named.version, sizeof(o->version));
                return;
        }
        while (unknown > o->version && unknown[-1] == '-')
                unknown--;
        *unknown = '\0';
}

static int iso_look(const struct source *src, struct osinfo *o, struct err *err)
{
        struct iso_probe iso;
        struct efi efi;
        int r = iso_probe(src, &iso, err);

        if (r < 0)
                return r == -EBADMSG ? 0 : r;
        o->bios = iso.bios;
        o->uefi = iso.efi;
        if (iso.volume[0] || iso.application[0])
                r = database_media(&iso, o, err);
        if (r < 0)
                return r;
        if (o->distro[0]) {
                version_complete(iso.volume, o);
                snprintf(o->from, sizeof(o->from), "media");
        } else if (volume_id_parse(iso.volume, o)) {
                snprintf(o->from, sizeof(o->from), "volume-id");
                snprintf(o->type, sizeof(o->type), "linux");
        }
        if (!o->architecture[0] && iso.efi && iso.efi_offset < src->size) {
                struct sub_source sub;
                struct source image = source_part(&sub, src, iso.efi_offset, src->size - iso.efi_offset);

                if (fat_efi_look(&image, &efi, NULL) == 0)
                        efi_note(&efi, o);
        }
        return 0;
}

static int partition_look(const struct source *part, struct os_release *release, const char **architecture,
                          struct efi *efi, struct err *err)
{
        struct os_release found = {0};
        struct efi here;
        int r = ext_look(part, &found, architecture, err);

        if (r == 0)
                r = xfs_look(part, &found, architecture, err);
        if (r == 0)
                r = btrfs_look(part, &found, architecture, err);
        if (r == 0 && found.id[0] && !release->id[0])
                *release = found;
        if (r == 0 && fat_efi_look(part, &here, NULL) == 0 && here.loaders)
                *efi = here;
        return r;
}

static int disk_look(const struct source *disk, struct osinfo *o, struct err *err)
{
        struct os_release release = {0};
        const char *architecture = NULL;
        struct partition_table table;
        struct efi efi = {0};
        int r = partition_table_read(disk, &table, err);

        if (r < 0)
                return r;
        o->bios = table.found && table.boot_code;
        if (!table.found)
                r = partition_look(disk, &release, &architecture, &efi, err);
        for (size_t i = 0; r == 0 && i < table.n; i++) {
                const struct partition *p = &table.list[i];
                struct sub_source sub;
                struct source part = source_part(&sub, disk, p->offset, p->len);

                if (p->kind == PARTITION_BIOS_BOOT)
                        o->bios = true;
                else
                        r = partition_look(&part, &release, &architecture, &efi, err);
        }
        if (r < 0)
                return r;
        if (architecture)
                snprintf(o->architecture, sizeof(o->architecture), "%s", architecture);
        efi_note(&efi, o);
        if (!release.id[0]) {
                vendor_note(&efi, o);
                return 0;
        }
        snprintf(o->from, sizeof(o->from), "os-release");
        r = database_release(&release, o, err);
        if (r == 0 && !o->id[0])
                snprintf(o->name, sizeof(o->name), "%s", release.name);
        o->min_disk = 0; /* what an installation needs; this one is done, and as large as its disk */
        return r;
}

static int answer(int fd, const struct osinfo *o, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *j = osinfo_json(o);
        _cleanup_(freep) char *text = j ? json_text(j) : NULL, *message = NULL;

        if (text)
                message = str_printf("%c%s", OSINFO_ANSWER, text);
        if (!message)
                return err_set(err, -ENOMEM, "out of memory");
        if (send(fd, message, strlen(message), MSG_NOSIGNAL) < 0)
                return err_set(err, -errno, "the caller is gone: %s", strerror(errno));
        return 0;
}

int main(void)
{
        struct source src = {0};
        struct osinfo o = {0};
        struct err err = {0};
        bool iso = false;
        int r;

        r = sandbox_enter(&err);
        if (r == 0)
                r = remote_begin(0, &src, &iso, &err);
        if (r == 0)
                r = iso ? iso_look(&src, &o, &err) : disk_look(&src, &o, &err);
        if (r == 0)
                r = answer(0, &o, &err);
        remote_end(&src);
        if (r < 0)
                fprintf(stderr, "wherry-osinfo: %s\n", err_text(&err));
        return r < 0 ? 1 : 0;
}
