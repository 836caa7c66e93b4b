/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/start.h"

#include <string.h>

bool start_follows(const struct start_change *c)
{
        if (c->stored_epoch == c->epoch)
                return strcmp(c->stored, c->start) == 0; /* the same change once more */
        if (c->stored_epoch > c->epoch)
                return false;
        /* Who brings memory along runs on the disk as that start has left it, and nobody else since. */
        return !c->memory || strcmp(c->stored, c->memory) == 0;
}
