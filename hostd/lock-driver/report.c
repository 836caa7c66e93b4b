/* SPDX-License-Identifier: Apache-2.0 */

#include <dlfcn.h>
#include <libvirt/virterror.h>
#include <stdio.h>

#include "hostd/lock-driver/driver.h"

/*
 * libvirt keeps its function for setting a thread's error to itself: the symbol is there, but its version
 * changes with every release, so it is looked up by name at run time. Its signature has been the same since
 * 2008.
 */
typedef void (*report_helper)(int domain, int code, const char *file, const char *function, size_t line,
                              const char *fmt, ...) __attribute__((format(printf, 6, 7)));

void report_refusal(const char *reason)
{
        union {
                void *symbol;
                report_helper call;
        } helper = {.symbol = dlsym(RTLD_DEFAULT, "virReportErrorHelper")};

        if (helper.symbol)
                helper.call(VIR_FROM_LOCKING, VIR_ERR_OPERATION_FAILED, "wherry", "gate", 0, "wherry: %s",
                            reason);
        else
                fprintf(stderr, "wherry: %s\n",
                        reason); /* libvirt still fails the call, with a text of its own */
}
