/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/internal.h"
#include "formats/probe.h"

/* Offsets: docs/formats/iso9660.md. */
#define SECTOR 2048u
#define FIRST_DESCRIPTOR 16u
#define DESCRIPTORS_MAX 48u

static void identifier(char *ret, size_t room, const uint8_t *text, size_t len)
{
        while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\0'))
                len--;
        text_clean(ret, room, text, len);
}

static void primary(const uint8_t *d, struct iso_probe *p)
{
        identifier(p->system, sizeof(p->system), d + 8, 32);
        identifier(p->volume, sizeof(p->volume), d + 40, 32);
        identifier(p->publisher, sizeof(p->publisher), d + 318, 128);
        identifier(p->application, sizeof(p->application), d + 574, 128);
        p->volume_size = (uint64_t)get_le32(d + 80) * get_le16(d + 128);
}

static void boot_entry(const uint8_t *e, uint8_t platform, struct iso_probe *p)
{
        if (e[0] != 0x88)
                return;
        if (platform == 0xef) {
                p->efi = true;
                p->efi_offset = (uint64_t)get_le32(e + 8) * SECTOR;
        } else if (platform == 0)
                p->bios = true;
}

/* The default entry belongs to the validation entry's platform; each section has its own. */
static int catalog(const struct source *src, uint64_t offset, struct iso_probe *p, struct err *err)
{
        uint8_t c[SECTOR];
        int r;

        if (src->size < SECTOR || offset > src->size - SECTOR)
                return 0;
        r = source_read(src, c, sizeof(c), offset, err);
        if (r < 0 || c[0] != 1)
                return r;
        boot_entry(c + 32, c[1], p);
        for (size_t at = 64; at + 64 <= sizeof(c) && (c[at] == 0x90 || c[at] == 0x91);) {
                uint8_t platform = c[at + 1];
                unsigned n = get_le16(c + at + 2);

                for (at += 32; n > 0 && at + 32 <= sizeof(c); n--, at += 32)
                        boot_entry(c + at, platform, p);
        }
        return 0;
}

int iso_probe(const struct source *src, struct iso_probe *ret, struct err *err)
{
        static const char torito[] = "EL TORITO SPECIFICATION";
        uint64_t boot = 0;
        bool found = false;

        *ret = (struct iso_probe){0};
        for (uint64_t i = FIRST_DESCRIPTOR; i < FIRST_DESCRIPTOR + DESCRIPTORS_MAX; i++) {
                uint8_t d[SECTOR];
                int r;

                if ((i + 1) * SECTOR > src->size)
                        break;
                r = source_read(src, d, sizeof(d), i * SECTOR, err);
                if (r < 0)
                        return r;
                if (memcmp(d + 1, "CD001", 5) != 0 || d[0] == 255)
                        break;
                if (d[0] == 1 && !found)
                        primary(d, ret);
                found = found || d[0] == 1;
                if (d[0] == 0 && memcmp(d + 7, torito, sizeof(torito) - 1) == 0)
                        boot = (uint64_t)get_le32(d + 71) * SECTOR;
        }
        if (!found)
                return err_set(err, -EBADMSG, "there is no primary volume descriptor");
        return boot ? catalog(src, boot, ret, err) : 0;
}
