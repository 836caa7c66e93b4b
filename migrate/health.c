/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/health.h"

bool health_wished_off(const struct end_view *v)
{
        if (v->word != END_POWER_OFF || v->ours || v->host_leaves || v->rebooted)
                return false;
        return !v->pressed || v->pressed_ms > HEALTH_BUTTON_MS;
}
