/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "tests/fuzz/fuzz.h"

/* Gives every file of the folders named to the target: the corpus as a plain test. The bytes lie in memory
 * of exactly their size, so that a sanitizer sees a read beyond. */
static int replay(const char *path)
{
        _cleanup_(freep) char *text = NULL;
        struct err err = {0};
        uint8_t *data;
        size_t len;

        if (file_read(path, (size_t)64 << 20, &text, &len, &err) < 0) {
                fprintf(stderr, "%s\n", err_text(&err));
                return -1;
        }
        data = malloc(len ? len : 1);
        if (!data)
                return -1;
        memcpy(data, text, len);
        LLVMFuzzerTestOneInput(data, len);
        free(data);
        return 0;
}

int main(int argc, char **argv)
{
        unsigned n = 0;

        for (int i = 1; i < argc; i++) {
                DIR *dir = opendir(argv[i]);
                struct dirent *d;

                if (!dir) {
                        perror(argv[i]);
                        return 1;
                }
                while ((d = readdir(dir))) {
                        _cleanup_(freep) char *path = str_printf("%s/%s", argv[i], d->d_name);

                        if (d->d_name[0] == '.')
                                continue;
                        if (!path || replay(path) < 0)
                                return 1;
                        n++;
                }
                closedir(dir);
        }
        printf("%u inputs\n", n);
        return n > 0 ? 0 : 1; /* an empty corpus tests nothing */
}
