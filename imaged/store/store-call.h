/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/err.h"

/*
 * Calls an engine with an err of its own, named `own`, and passes that on only when the call failed: engines
 * set one on their way, for a folder that is there already or a file that is not, and still succeed.
 */
#define ENGINE_CALL(err, call)                                                                              \
        __extension__({                                                                                     \
                struct err own = {};                                                                        \
                int result_ = (call);                                                                       \
                if (result_ < 0 && own.code && (err))                                                       \
                        *(err) = own;                                                                       \
                result_;                                                                                    \
        })
