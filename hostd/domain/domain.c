/* SPDX-License-Identifier: Apache-2.0 */

#include "hostd/domain/domain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "hostd/domain/disk.h"

/* --- the lease
 * --------------------------------------------------------------------------------------------------- */

int domain_lease_format(const struct domain_lease *l, char *buf, size_t len)
{
        int n = snprintf(buf, len, "%s:%" PRIu64 ":%s:%" PRIu32 ":%" PRIu32 ":%s", l->instance, l->epoch,
                         l->start.id, l->start.uid, l->start.gid, l->attempt[0] ? l->attempt : "-");

        return n < 0 || (size_t)n >= len ? -ENOSPC : 0;
}

/* Takes the text up to the next ':' (or the end) off *p into buf; false where it is empty or does not fit.
 */
static bool field_next(const char **p, char *buf, size_t len)
{
        size_t n = strcspn(*p, ":");

        if (n == 0 || n >= len)
                return false;
        memcpy(buf, *p, n);
        buf[n] = '\0';
        *p += n + ((*p)[n] == ':');
        return true;
}

static bool number_next(const char **p, uint64_t max, uint64_t *ret)
{
        char text[24], *end;

        if (!field_next(p, text, sizeof text) || strspn(text, "0123456789") != strlen(text))
                return false;
        errno = 0;
        *ret = strtoull(text, &end, 10);
        return errno == 0 && *ret <= max;
}

static bool uuid_next(const char **p, char ret[UUID_LEN + 1])
{
        return field_next(p, ret, UUID_LEN + 1) && uuid_valid(ret);
}

int domain_lease_parse(const char *key, struct domain_lease *ret, struct err *err)
{
        struct domain_lease l = {0};
        const char *p = key;
        uint64_t uid, gid;
        char again[DOMAIN_LEASE_KEY_MAX];

        if (!uuid_next(&p, l.instance) || !number_next(&p, UINT64_MAX, &l.epoch) ||
            !uuid_next(&p, l.start.id) || !number_next(&p, UINT32_MAX, &uid) ||
            !number_next(&p, UINT32_MAX, &gid) || (!streq(p, "-") && !uuid_next(&p, l.attempt)))
                return err_set(err, -EINVAL, "lease \"%.200s\": not INSTANCE:EPOCH:START:UID:GID:ATTEMPT",
                               key);
        l.start.uid = (uint32_t)uid;
        l.start.gid = (uint32_t)gid;
        /* One text for one lease: refuses left-over bytes and leading zeros. */
        if (domain_lease_format(&l, again, sizeof again) < 0 || !streq(again, key))
                return err_set(err, -EINVAL, "lease \"%.200s\": not in its canonical form", key);
        *ret = l;
        return 0;
}

/* --- the domain
 * -------------------------------------------------------------------------------------------------- */

static void xml_text(FILE *f, const char *text)
{
        for (const char *p = text; *p; p++) {
                switch (*p) {
                case '&':
                        fputs("&amp;", f);
                        break;
                case '<':
                        fputs("&lt;", f);
                        break;
                case '>':
                        fputs("&gt;", f);
                        break;
                case '\'':
                        fputs("&apos;", f);
                        break;
                case '"':
                        fputs("&quot;", f);
                        break;
                default:
                        fputc(*p, f);
                }
        }
}

void xml_put(FILE *f, const char *fmt, const char *text)
{
        const char *mark = strstr(fmt, "%s");

        fwrite(fmt, 1, (size_t)(mark - fmt), f);
        xml_text(f, text);
        fputs(mark + 2, f);
}

static int spec_check(const struct domain_spec *s, struct err *err)
{
        if (!uuid_valid(s->instance))
                return err_set(err, -EINVAL, "instance id \"%.64s\" is no UUID",
                               s->instance ? s->instance : "");
        if (!s->name || !s->name[0] || strlen(s->name) > 63)
                return err_set(err, -EINVAL, "instance %s: no usable name", s->instance);
        if (!streq(s->instance, s->lease.instance))
                return err_set(err, -EINVAL, "instance %s: the lease is of %s", s->instance,
                               s->lease.instance);
        if (s->cpus < 1 || s->memory < 1 << 20)
                return err_set(err, -EINVAL, "instance %s: %u cores and %" PRIu64 " bytes of memory",
                               s->instance, s->cpus, s->memory);
        if (!s->lock_path || s->lock_path[0] != '/')
                return err_set(err, -EINVAL, "instance %s: no path for the second lock", s->instance);
        if (s->bridge && !s->mac)
                return err_set(err, -EINVAL, "instance %s: a bridge but no MAC address", s->instance);
        return 0;
}

static void emit_machine(FILE *f, const struct domain_spec *s)
{
        xml_put(f, "  <os><type arch='x86_64' machine='%s'>hvm</type></os>\n",
                s->machine ? s->machine : "q35");
        fputs("  <features><acpi/><apic/></features>\n", f);
        if (s->cpu_model) {
                fputs("  <cpu mode='custom' match='exact' check='partial'>", f);
                xml_put(f, "<model fallback='forbid'>%s</model></cpu>\n", s->cpu_model);
        } else if (s->kvm) {
                fputs("  <cpu mode='host-model' check='partial'/>\n", f);
        }
        fputs("  <clock offset='utc'><timer name='hpet' present='no'/></clock>\n"
              "  <on_poweroff>destroy</on_poweroff>\n"
              "  <on_reboot>restart</on_reboot>\n"
              "  <on_crash>destroy</on_crash>\n",
              f);
        /* Who owns a disk is the store's business: libvirt must not give it to QEMU's user, nor back at the
         * end. */
        fputs("  <seclabel type='none' model='dac'/>\n", f);
}

static int emit_lease(FILE *f, const struct domain_spec *s, struct err *err)
{
        char key[DOMAIN_LEASE_KEY_MAX];

        if (domain_lease_format(&s->lease, key, sizeof key) < 0)
                return err_set(err, -EINVAL, "instance %s: the lease is too long", s->instance);
        fputs("    <lease><lockspace>wherry</lockspace>", f);
        xml_put(f, "<key>%s</key>", key);
        xml_put(f, "<target path='%s'/></lease>\n", s->lock_path);
        return 0;
}

static int emit_devices(FILE *f, const struct domain_spec *s, struct err *err)
{
        int r;

        fputs("  <devices>\n", f);
        if (s->emulator)
                xml_put(f, "    <emulator>%s</emulator>\n", s->emulator);
        r = domain_disks_emit(f, s, err);
        if (r < 0)
                return r;
        r = emit_lease(f, s, err);
        if (r < 0)
                return r;
        if (s->bridge) {
                xml_put(f, "    <interface type='bridge'><source bridge='%s'/>", s->bridge);
                if (s->tap)
                        xml_put(f, "<target dev='%s'/>", s->tap);
                xml_put(f, "<mac address='%s'/><model type='virtio'/></interface>\n", s->mac);
        }
        /* The screen is a Unix socket in the folder that libvirt makes for this QEMU: only root and QEMU's
         * user may enter it. libvirt chooses the path, so that each host of a migration has its own. No USB:
         * an idle controller costs wakeups. */
        fputs("    <controller type='usb' model='none'/>\n"
              "    <serial type='pty'><target port='0'/></serial>\n"
              "    <console type='pty'><target type='serial' port='0'/></console>\n"
              "    <graphics type='vnc'><listen type='socket'/></graphics>\n"
              "    <video><model type='vga'/></video>\n"
              "    <panic model='isa'/>\n"
              "    <memballoon model='virtio'/>\n"
              "    <rng model='virtio'><backend model='builtin'/></rng>\n"
              "  </devices>\n",
              f);
        return 0;
}

int domain_xml(const struct domain_spec *spec, char **ret, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        size_t len = 0;
        FILE *f;
        int r;

        r = spec_check(spec, err);
        if (r < 0)
                return r;
        f = open_memstream(&text, &len);
        if (!f)
                return err_set(err, -ENOMEM, "domain XML: out of memory");
        fprintf(f, "<domain type='%s' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n",
                spec->kvm ? "kvm" : "qemu");
        xml_put(f, "  <name>wherry-%s</name>\n", spec->name);
        xml_put(f, "  <uuid>%s</uuid>\n", spec->instance);
        fprintf(f, "  <memory unit='b'>%" PRIu64 "</memory>\n  <vcpu placement='static'>%u</vcpu>\n",
                spec->memory, spec->cpus);
        emit_machine(f, spec);
        r = emit_devices(f, spec, err);
        /* A press of the power button leaves a line in libvirt's log of the guest. Without it an end that
         * hostd did not hear of could not be told from the guest's own power-off. */
        fputs("  <qemu:commandline><qemu:arg value='-trace'/>"
              "<qemu:arg value='qemu_system_powerdown_request'/></qemu:commandline>\n"
              "</domain>\n",
              f);
        if ((ferror(f) | fclose(f)) != 0 && r == 0)
                r = err_set(err, -ENOMEM, "domain XML: out of memory");
        if (r < 0)
                return r;
        *ret = take(text);
        return 0;
}
