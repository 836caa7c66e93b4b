/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/util.h"
#include "hostd/virt/internal.h"

/* The event with the ended job's figures is sent before libvirt's call returns, on another thread. */
#define FIGURES_WAIT_MS 1000

struct params {
        virTypedParameterPtr list;
        int n, room;
};

static void params_done(struct params *p)
{
        virTypedParamsFree(p->list, p->n);
}

static uint64_t param_number(const virTypedParameter *params, int n, const char *name)
{
        for (int i = 0; i < n; i++) {
                if (!streq(params[i].field, name))
                        continue;
                if (params[i].type == VIR_TYPED_PARAM_ULLONG)
                        return params[i].value.ul;
                if (params[i].type == VIR_TYPED_PARAM_UINT)
                        return params[i].value.ui;
        }
        return 0;
}

void virt_progress_from_params(const virTypedParameter *params, int n, struct virt_progress *ret)
{
        struct virt_progress p = {0};

        p.elapsed_ms = param_number(params, n, VIR_DOMAIN_JOB_TIME_ELAPSED);
        p.transferred = param_number(params, n, VIR_DOMAIN_JOB_DATA_PROCESSED);
        p.remaining = param_number(params, n, VIR_DOMAIN_JOB_DATA_REMAINING);
        p.total = param_number(params, n, VIR_DOMAIN_JOB_DATA_TOTAL);
        /* libvirt: pages per second */
        p.dirty_rate = param_number(params, n, VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE) *
                       param_number(params, n, VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE);
        p.downtime_ms = param_number(params, n, VIR_DOMAIN_JOB_DOWNTIME);
        *ret = p;
}

/* base with its [start, start + len) replaced by text; fresh memory. */
static char *spliced(const char *base, size_t start, size_t len, const char *text)
{
        return str_printf("%.*s%s%s", (int)start, base, text, base + start + len);
}

/* Where the element <cpu ...>...</cpu> (or <cpu .../>) stands in a domain's XML. */
static bool cpu_element(const char *xml, size_t *ret_start, size_t *ret_len)
{
        const char *start = strstr(xml, "<cpu "), *end, *tag;

        if (!start)
                return false;
        tag = strchr(start, '>');
        if (!tag)
                return false;
        end = tag[-1] == '/' ? tag + 1 : strstr(tag, "</cpu>");
        if (!end)
                return false;
        if (tag[-1] != '/')
                end += strlen("</cpu>");
        *ret_start = (size_t)(start - xml);
        *ret_len = (size_t)(end - start);
        return true;
}

/*
 * The destination's XML with what the running guest really has: "q35" is an alias and host-model a wish, and
 * both mean something else after an upgrade, or on another host. live: the source's migratable XML.
 */
int virt_destination_xml(const char *live, const char *wanted, char **ret, struct err *err)
{
        _cleanup_(freep) char *machine = virt_xml_between(live, "machine='", "'"), *cpu = NULL,
                              *with_machine = NULL;
        const char *mark = strstr(wanted, "machine='");
        size_t start, len, wanted_start, wanted_len;
        char *xml, *panic;

        if (!machine || !mark)
                return err_set(err, -EINVAL, "domain XML without a machine type");
        mark += strlen("machine='");
        with_machine = spliced(wanted, (size_t)(mark - wanted), strcspn(mark, "'"), machine);
        if (!with_machine)
                return err_set(err, -ENOMEM, "domain XML: out of memory");
        /* A guest that an older hostd started has no such device, and cannot get one on its way. */
        panic = strstr(live, "<panic ") ? NULL : strstr(with_machine, "<panic ");
        if (panic)
                memset(panic, ' ', strcspn(panic, ">") + 1);
        if (!cpu_element(live, &start, &len)) {
                *ret = take(with_machine);
                return 0;
        }
        cpu = strndup(live + start, len);
        if (!cpu_element(with_machine, &wanted_start, &wanted_len)) {
                mark = strstr(with_machine, "<clock ");
                if (!mark)
                        return err_set(err, -EINVAL, "domain XML without a clock");
                wanted_start = (size_t)(mark - with_machine);
                wanted_len = 0;
        }
        xml = cpu ? spliced(with_machine, wanted_start, wanted_len, cpu) : NULL;
        if (!xml)
                return err_set(err, -ENOMEM, "domain XML: out of memory");
        *ret = xml;
        return 0;
}

static unsigned migration_flags(const struct virt_migration *m, const char *xml)
{
        /* ABORT_ON_ERROR: a guest that a disk error has stopped stays where it is seen and can be judged
         * (fenced or not). Auto-converge slows only a guest that dirties memory faster than the network
         * takes it. */
        unsigned flags = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_ABORT_ON_ERROR |
                         VIR_MIGRATE_AUTO_CONVERGE;

        /* Network disks and cache=none satisfy libvirt as they are. Of a file it looks at the type of the
         * file system, and takes any that it does not know as shared for local; that both hosts see the same
         * store is known here: their records and heartbeats are in it, and the disk's name is claimed in it.
         */
        if (strstr(xml, "<disk type='file' device='disk'"))
                flags |= VIR_MIGRATE_UNSAFE;
        if (m->tls)
                flags |= VIR_MIGRATE_TLS;
        return flags;
}

static void waiter_add(struct virt *v, struct virt_waiter *w)
{
        pthread_mutex_lock(&v->lock);
        w->next = v->waiters;
        v->waiters = w;
        pthread_mutex_unlock(&v->lock);
}

/* Takes w off the list, after waiting for its figures where the migration succeeded. */
static void waiter_remove(struct virt *v, struct virt_waiter *w, bool wait)
{
        struct timespec until;
        int r = 0;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += FIGURES_WAIT_MS / 1000;
        pthread_mutex_lock(&v->lock);
        while (wait && !w->arrived && !v->lost && r == 0)
                r = pthread_cond_timedwait(&v->changed, &v->lock, &until);
        for (struct virt_waiter **p = &v->waiters; *p; p = &(*p)->next) {
                if (*p == w) {
                        *p = w->next;
                        break;
                }
        }
        pthread_mutex_unlock(&v->lock);
}

static int params_fill(struct params *p, const struct virt_migration *m, const char *xml)
{
        if (virTypedParamsAddString(&p->list, &p->n, &p->room, VIR_MIGRATE_PARAM_DEST_XML, xml) < 0)
                return -1;
        if (m->migrate_uri &&
            virTypedParamsAddString(&p->list, &p->n, &p->room, VIR_MIGRATE_PARAM_URI, m->migrate_uri) < 0)
                return -1;
        return 0;
}

int virt_migrate(struct virt *v, const struct virt_migration *m, struct virt_progress *ret, struct err *err)
{
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        _cleanup_(freep) char *live = NULL, *xml = NULL;
        _cleanup_(params_done) struct params params = {0};
        struct virt_waiter waiter = {.instance = m->instance};
        int64_t begin = clock_ms();
        int r = virt_lookup_own(v, m->instance, &dom, err);

        if (r < 0)
                return r;
        live = virDomainGetXMLDesc(dom, VIR_DOMAIN_XML_MIGRATABLE);
        if (!live)
                return virt_error(err, "instance %s: XML", m->instance);
        r = virt_destination_xml(live, m->xml, &xml, err);
        if (r < 0)
                return err_wrap(err, r, "instance %s", m->instance);
        if (m->downtime_ms && virDomainMigrateSetMaxDowntime(dom, m->downtime_ms, 0) < 0)
                return virt_error(err, "instance %s: set the longest downtime", m->instance);
        if (params_fill(&params, m, xml) < 0)
                return virt_error(err, "instance %s: migration parameters", m->instance);
        waiter_add(v, &waiter);
        if (virDomainMigrateToURI3(dom, m->destination, params.list, (unsigned)params.n,
                                   migration_flags(m, xml)) < 0)
                r = virt_error(err, "instance %s: migrate to %s", m->instance, m->destination);
        waiter_remove(v, &waiter, r == 0);
        waiter.progress.known = waiter.arrived;
        if (!waiter.arrived)
                waiter.progress.elapsed_ms = (uint64_t)(clock_ms() - begin);
        snprintf(waiter.progress.state, sizeof waiter.progress.state, "none");
        if (ret)
                *ret = waiter.progress;
        return r;
}

int virt_migrate_progress(struct virt *v, const char *instance, struct virt_progress *ret, struct err *err)
{
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        _cleanup_(params_done) struct params params = {0};
        struct virt_progress p;
        int type = VIR_DOMAIN_JOB_NONE, r;

        r = virt_lookup(v, instance, &dom, err);
        if (r < 0)
                return r;
        if (virDomainGetJobStats(dom, &type, &params.list, &params.n, 0) < 0 &&
            virGetLastError()->code !=
                VIR_ERR_OPERATION_UNSUPPORTED) /* at the destination: the source has them */
                return virt_error(err, "instance %s: the migration's figures", instance);
        virt_progress_from_params(params.list, params.n, &p);
        snprintf(p.state, sizeof p.state, "%s",
                 type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED ? "running" : "none");
        *ret = p;
        return 0;
}

int virt_migrate_abort(struct virt *v, const char *instance, struct err *err)
{
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        int r = virt_lookup_own(v, instance, &dom, err);

        if (r < 0)
                return r;
        return virDomainAbortJob(dom) == 0 ? 0
                                           : virt_error(err, "instance %s: abort the migration", instance);
}
