/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/map.h"

#include <errno.h>
#include <stdlib.h>

#include "common/util.h"
#include "formats/internal.h"

#define UNITS_MAX (UINT64_C(1) << 23) /* two bytes each: 16 MiB */

/*
 * Blocks of one length at any aligned place. The file is cut into units of a block's length, so in a unit
 * begins at most one block: its place there, in steps of `align`, is all that has to be kept to see an
 * overlap with this unit's or a neighbour's block. Packed blocks have any length; they have to follow each
 * other in the file as they do on the disk, which every writer of such files does.
 */
struct walk {
        struct map *m;
        struct image_info *info;
        uint16_t *starts; /* 1 + place; 0: none */
        uint64_t unit, n_units;
        uint64_t packed_end; /* of the last packed block */
        uint64_t expanded;   /* guest bytes of packed blocks */
};

static bool inside(struct walk *w, uint64_t host, uint64_t len)
{
        if (host > w->m->src.size || len > w->m->src.size - host) {
                refuse_number(w->info, "truncated", "block", host, w->m->src.size,
                              "it does not lie inside the file");
                return false;
        }
        return true;
}

static bool reserved(struct walk *w, uint64_t host, uint64_t len)
{
        for (size_t i = 0; i < w->m->n_reserved; i++)
                if (host < w->m->reserved[i].start + w->m->reserved[i].len &&
                    w->m->reserved[i].start < host + len) {
                        refuse_number(w->info, "overlap", "block", host,
                                      w->m->reserved[i].start + w->m->reserved[i].len,
                                      "it lies in a header or a table");
                        return true;
                }
        return false;
}

static bool claim(struct walk *w, uint64_t host)
{
        uint64_t u = host / w->unit;
        uint32_t place = (uint32_t)(host % w->unit / w->m->align) + 1;

        if (w->starts[u] != 0 || (u > 0 && w->starts[u - 1] > place) ||
            (w->starts[u + 1] != 0 && w->starts[u + 1] < place)) {
                refuse_number(w->info, "overlap", "block", host, 1, "this place is used more than once");
                return false;
        }
        w->starts[u] = (uint16_t)place;
        return true;
}

static int packed(struct walk *w, uint64_t block, uint64_t host, struct err *err)
{
        uint64_t len;
        int r;

        if (!inside(w, host, 1))
                return 0;
        r = w->m->ops->packed_len(w->m, block, host, &len, err);
        if (r < 0)
                return r;
        if (!inside(w, host, len) || reserved(w, host, len))
                return 0;
        if (host < w->packed_end) {
                refuse_number(w->info, "overlap", "compressed block", host, w->packed_end,
                              "it begins before the end of the one before it");
                return 0;
        }
        w->packed_end = host + len;
        w->expanded += map_block_len(w->m, block);
        if (!expansion_fits(w->expanded, w->m->src.size))
                refuse_number(w->info, "expansion", "compressed blocks", w->expanded,
                              w->m->src.size * EXPANSION_MAX, "the disk is out of proportion to the file");
        return 0;
}

static int walk_block(struct walk *w, uint64_t block, uint64_t *ret_next, struct err *err)
{
        struct map *m = w->m;
        struct mapping at = {0};
        uint64_t len;
        int r = m->ops->lookup(m, block, &at, err);

        if (r < 0)
                return r;
        *ret_next = block + 1;
        switch (at.kind) {
        case MAPPING_HOLE:
                *ret_next = block + MAX_OF(at.blocks, UINT64_C(1));
                break;
        case MAPPING_DATA:
                len = m->data_offset + map_block_len(m, block);
                if (inside(w, at.host, len) && !reserved(w, at.host, len))
                        claim(w, at.host);
                break;
        case MAPPING_PACKED:
                return packed(w, block, at.host, err);
        }
        return 0;
}

int map_walk(struct map *m, struct image_info *info, struct err *err)
{
        struct walk w = {.m = m, .info = info, .unit = m->block + m->data_offset};
        _cleanup_(freep) uint16_t *starts = NULL;
        struct err why = {0};
        uint64_t n_blocks = (m->size - 1) / m->block + 1;
        int r = 0;

        w.n_units = m->src.size / w.unit + 2;
        if (w.n_units > UNITS_MAX || w.unit / m->align >= UINT16_MAX) {
                refuse_number(info, "too-many-blocks", "blocks of the file", w.n_units, UNITS_MAX,
                              "convert with larger blocks");
                return 0;
        }
        w.starts = starts = calloc((size_t)w.n_units, sizeof(*starts));
        if (!starts)
                return err_set(err, -ENOMEM, "out of memory");
        if (m->ops->reserve)
                r = m->ops->reserve(m, info, err);
        for (uint64_t b = 0; r == 0 && b < n_blocks && info->n_refusals == 0;) {
                r = walk_block(&w, b, &b, &why);
                if (r == -EBADMSG) { /* a bad entry, or a table that ends with the file */
                        refuse_number(info, "table-entry", "block", b, n_blocks, err_text(&why));
                        return 0;
                }
        }
        if (why.code)
                return err_set(err, why.code, "%s", err_text(&why));
        return r;
}
