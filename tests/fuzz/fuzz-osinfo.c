/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "imaged/osinfo/helper.h"
#include "tests/fuzz/fuzz.h"

/* One input as an os-release file, an ELF header, an ISO's volume identifier, and the helper's answer: what
 * passes comes out the same from its own JSON. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct os_release release;
        struct osinfo o = {0}, again;
        char volume[33] = {0};
        json_t *j = json_loadb((const char *)data, size, 0, NULL);

        os_release_parse((const char *)data, size, &release);
        if (size >= ELF_HEAD)
                elf_architecture(data);
        memcpy(volume, data, size < 32 ? size : 32);
        volume_id_parse(volume, &o);
        if (j && osinfo_parse(j, &o, NULL) == 0) {
                json_t *out = osinfo_json(&o), *twice = NULL;

                if (osinfo_parse(out, &again, NULL) == 0)
                        twice = osinfo_json(&again);
                if (!json_equal(out, twice))
                        abort();
                json_decref(out);
                json_decref(twice);
        }
        json_decref(j);
        return 0;
}
