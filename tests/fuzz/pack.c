/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"

/* pack FILE >INPUT: a file as an input of fuzz-format.c, sectors of zeros left out. */
#define SECTOR 512u
#define RUN_MAX 64u

static int put(const uint8_t *p, size_t len)
{
        return fwrite(p, 1, len, stdout) == len ? 0 : -1;
}

int main(int argc, char **argv)
{
        char *text = NULL;
        uint8_t head[6];
        size_t len;

        if (argc != 2 || file_read(argv[1], 12 << 20, &text, &len, NULL) < 0) {
                fprintf(stderr, "usage: pack FILE >INPUT; at most 12 MiB\n");
                return 2;
        }
        put_le32(head, (uint32_t)(len / SECTOR));
        if (put(head, 4) < 0)
                return 1;
        for (size_t at = 0; at + SECTOR <= len;) {
                size_t n = 0;

                while (n < RUN_MAX * SECTOR && at + n + SECTOR <= len &&
                       !bytes_are_zero((const uint8_t *)text + at + n, SECTOR))
                        n += SECTOR;
                put_le32(head, (uint32_t)(at / SECTOR));
                put_le16(head + 4, (uint16_t)n);
                if (n > 0 && (put(head, 6) < 0 || put((const uint8_t *)text + at, n) < 0))
                        return 1;
                at += n > 0 ? n : SECTOR;
        }
        free(text);
        return fflush(stdout) == 0 ? 0 : 1;
}
