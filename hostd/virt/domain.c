/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "hostd/virt/internal.h"

char *virt_xml_between(const char *xml, const char *from, const char *to)
{
        const char *start = strstr(xml, from), *end = start ? strstr(start + strlen(from), to) : NULL;

        return end ? strndup(start + strlen(from), (size_t)(end - start) - strlen(from)) : NULL;
}

int virt_xml_lease(const char *xml, struct domain_lease *ret, struct err *err)
{
        const char *lease = strstr(xml, "<lockspace>wherry</lockspace>");
        _cleanup_(freep) char *key = NULL;

        if (!lease)
                return err_set(err, -ENOENT, "the guest has no lease of ours");
        key = virt_xml_between(lease, "<key>", "</key>");
        return domain_lease_parse(key ? key : "", ret, err);
}

static const char *state_reason(int state, int reason)
{
        static const char *const running[] = {
            "unknown",       "booted",   "migrated",           "restored",
            "from-snapshot", "unpaused", "migration-canceled", "save-canceled",
            "wakeup",        "crashed",  "postcopy",           "postcopy-failed"};
        static const char *const paused[] = {"unknown",  "user",           "migration", "save",
                                             "dump",     "ioerror",        "watchdog",  "from-snapshot",
                                             "shutdown", "snapshot",       "crashed",   "starting-up",
                                             "postcopy", "postcopy-failed"};

        if (state == VIR_DOMAIN_RUNNING && reason >= 0 && (size_t)reason < ARRAY_SIZE(running))
                return running[reason];
        if (state == VIR_DOMAIN_PAUSED && reason >= 0 && (size_t)reason < ARRAY_SIZE(paused))
                return paused[reason];
        return state == VIR_DOMAIN_SHUTDOWN ? "shutdown" : "unknown";
}

/* 1: filled; 0: not ours, or gone meanwhile. */
static int domain_describe(virDomainPtr dom, const struct virt_domain *processes, size_t n_processes,
                           struct virt_domain *ret, struct err *err)
{
        const char *name = virDomainGetName(dom); /* before: the call forgets libvirt's last error */
        _cleanup_(freep) char *xml = virDomainGetXMLDesc(dom, 0);
        struct virt_domain d = {0};
        virDomainJobInfo job;
        int state, reason, r;

        if (!xml || virDomainGetState(dom, &state, &reason, 0) < 0) {
                r = virt_error(err, "guest %s", name);
                return r == -ENOENT ? 0 : r;
        }
        r = virt_xml_lease(xml, &d.lease, err);
        if (r < 0)
                return r == -ENOENT ? 0 : err_wrap(err, r, "guest %s", name);
        d.running = state == VIR_DOMAIN_RUNNING;
        snprintf(d.reason, sizeof d.reason, "%s", state_reason(state, reason));
        d.job = virDomainGetJobInfo(dom, &job) == 0 &&
                (job.type == VIR_DOMAIN_JOB_BOUNDED || job.type == VIR_DOMAIN_JOB_UNBOUNDED);
        for (size_t i = 0; i < n_processes; i++)
                if (streq(processes[i].lease.instance, d.lease.instance))
                        d.pid = processes[i].pid;
        *ret = d;
        return 1;
}

int virt_list(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        _cleanup_(virt_connect_freep) virConnectPtr conn = NULL;
        _cleanup_(freep) struct virt_domain *list = NULL, *processes = NULL;
        virDomainPtr *doms = NULL;
        size_t n = 0, n_processes = 0;
        int n_doms, r;

        r = virt_conn(v, &conn, err);
        if (r < 0)
                return r;
        n_doms = virConnectListAllDomains(conn, &doms, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
        if (n_doms < 0)
                return virt_error(err, "list the guests");
        r = virt_processes(v, &processes, &n_processes, err);
        list = calloc((size_t)n_doms + 1, sizeof *list);
        if (r >= 0 && !list)
                r = err_set(err, -ENOMEM, "list the guests: out of memory");
        for (int i = 0; i < n_doms; i++) {
                if (r >= 0)
                        r = domain_describe(doms[i], processes, n_processes, &list[n], err);
                if (r > 0)
                        n++;
                virDomainFree(doms[i]);
        }
        free(doms);
        if (r < 0)
                return r;
        *ret = take(list);
        *ret_n = n;
        return 0;
}

int virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err)
{
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        _cleanup_(freep) struct virt_domain *processes = NULL;
        size_t n_processes = 0;
        int r;

        r = virt_lookup(v, instance, &dom, err);
        if (r < 0)
                return r;
        r = virt_processes(v, &processes, &n_processes, err);
        if (r < 0)
                return r;
        r = domain_describe(dom, processes, n_processes, ret, err);
        return r == 0 ? err_set(err, -ENOENT, "instance %s: gone", instance) : MIN_OF(r, 0);
}

bool virt_unanswered(int r)
{
        return r == -ENOTCONN || r == -ETIMEDOUT;
}

int virt_start(struct virt *v, const char *xml, struct err *err)
{
        _cleanup_(virt_connect_freep) virConnectPtr conn = NULL;
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        int r = virt_conn_own(v, &conn, err);

        if (r < 0)
                return r;
        dom = virDomainCreateXML(conn, xml, 0);
        return dom ? 0 : virt_error(err, "start");
}

int virt_shutdown(struct virt *v, const char *instance, struct err *err)
{
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        int r = virt_lookup_own(v, instance, &dom, err);

        if (r < 0)
                return r;
        if (virDomainShutdownFlags(dom, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) < 0)
                return virt_error(err, "instance %s: shutdown", instance);
        return 0;
}

int virt_kill(struct virt *v, const char *instance, struct err *err)
{
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        const virError *e;
        int r = virt_lookup_own(v, instance, &dom, err);

        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        if (virDomainDestroy(dom) == 0)
                return 0;
        e = virGetLastError();
        /* It ended by itself meanwhile: libvirt says "domain is not running", or does not know it any more.
         */
        if (e && (e->code == VIR_ERR_NO_DOMAIN ||
                  (e->code == VIR_ERR_OPERATION_INVALID && virDomainIsActive(dom) != 1)))
                return 0;
        return virt_error(err, "instance %s: destroy", instance);
}

int virt_resume(struct virt *v, const char *instance, struct err *err)
{
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        int r = virt_lookup_own(v, instance, &dom, err);

        if (r < 0)
                return r;
        return virDomainResume(dom) == 0 ? 0 : virt_error(err, "instance %s: resume", instance);
}

int virt_xml(struct virt *v, const char *instance, char **ret, struct err *err)
{
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        int r = virt_lookup(v, instance, &dom, err);

        if (r < 0)
                return r;
        *ret = virDomainGetXMLDesc(dom, 0);
        return *ret ? 0 : virt_error(err, "instance %s: XML", instance);
}

static void version_text(unsigned long v, char *buf, size_t len)
{
        snprintf(buf, len, "%lu.%lu.%lu", v / 1000000 % 1000, v / 1000 % 1000, v % 1000);
}

/* By the "dac" security model, which is there whatever else is configured. Without it: root. */
static void qemu_user(const char *caps, uint32_t *ret_uid, uint32_t *ret_gid)
{
        const char *dac = strstr(caps, "<model>dac</model>");
        _cleanup_(freep) char *label = dac ? virt_xml_between(dac, "<baselabel type='qemu'>", "<") : NULL;

        if (!label || sscanf(label, "+%" SCNu32 ":+%" SCNu32, ret_uid, ret_gid) != 2)
                *ret_uid = *ret_gid = 0;
}

int virt_host(struct virt *v, struct virt_host *ret, struct err *err)
{
        _cleanup_(virt_connect_freep) virConnectPtr conn = NULL;
        _cleanup_(freep) char *caps = NULL, *cpu = NULL, *model = NULL, *kvm = NULL;
        struct virt_host h = {0};
        unsigned long lib, hv;
        virNodeInfo info;
        int r = virt_conn(v, &conn, err);

        if (r < 0)
                return r;
        caps = virConnectGetCapabilities(conn);
        if (!caps || virNodeGetInfo(conn, &info) < 0 || virConnectGetLibVersion(conn, &lib) < 0 ||
            virConnectGetVersion(conn, &hv) < 0)
                return virt_error(err, "what the host has");
        h.cpus = info.cpus;
        h.memory = (uint64_t)info.memory * 1024; /* KiB */
        version_text(lib, h.libvirt, sizeof h.libvirt);
        version_text(hv, h.qemu, sizeof h.qemu);
        cpu = virt_xml_between(caps, "<cpu>", "</cpu>");
        model = cpu ? virt_xml_between(cpu, "<model>", "</model>") : NULL;
        snprintf(h.cpu_model, sizeof h.cpu_model, "%s", model ? model : "");
        qemu_user(caps, &h.qemu_uid, &h.qemu_gid);
        kvm = virConnectGetDomainCapabilities(conn, NULL, "x86_64", "q35", "kvm", 0);
        h.kvm = kvm != NULL;
        *ret = h;
        return 0;
}
