/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/table.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

struct table {
        const char *const *titles; /* borrowed, string constants of the caller */
        size_t n_columns;
        char **cells;
        size_t n_cells, room;
};

struct table *table_new(const char *const *titles, size_t n_columns)
{
        struct table *t = calloc(1, sizeof(*t));

        if (t) {
                t->titles = titles;
                t->n_columns = n_columns;
        }
        return t;
}

struct table *table_free(struct table *t)
{
        if (!t)
                return NULL;
        for (size_t i = 0; i < t->n_cells; i++)
                free(t->cells[i]);
        free(t->cells);
        free(t);
        return NULL;
}

void table_freep(struct table **t)
{
        table_free(*t);
}

char *text_printable(const char *text)
{
        char *copy = strdup(text);

        for (char *p = copy; p && *p; p++)
                if (iscntrl((unsigned char)*p))
                        *p = '?';
        return copy;
}

int table_add(struct table *t, const char *text)
{
        char *copy = text_printable(text && text[0] ? text : "-");

        if (!copy)
                return -ENOMEM;
        if (t->n_cells == t->room) {
                size_t room = t->room ? t->room * 2 : 64;
                char **bigger = realloc(t->cells, room * sizeof(*bigger));

                if (!bigger) {
                        free(copy);
                        return -ENOMEM;
                }
                t->cells = bigger;
                t->room = room;
        }
        t->cells[t->n_cells++] = copy;
        return 0;
}

int table_addf(struct table *t, const char *fmt, ...)
{
        _cleanup_(freep) char *text = NULL;
        va_list ap;
        int r;

        va_start(ap, fmt);
        r = vasprintf(&text, fmt, ap);
        va_end(ap);
        if (r < 0) {
                text = NULL;
                return -ENOMEM;
        }
        return table_add(t, text);
}

/* Columns on a terminal: the characters of UTF-8 without their continuation bytes. */
static size_t width_of(const char *text)
{
        size_t n = 0;

        for (; *text; text++)
                n += ((unsigned char)*text & 0xc0) != 0x80;
        return n;
}

static const char *title_of(const struct table *t, size_t column)
{
        return t->titles[column] + (t->titles[column][0] == '>');
}

static size_t column_width(const struct table *t, size_t column, bool titles)
{
        size_t width = titles ? width_of(title_of(t, column)) : 0;

        for (size_t i = column; i < t->n_cells; i += t->n_columns)
                width = MAX_OF(width, width_of(t->cells[i]));
        return width;
}

static void put_cell(const struct table *t, size_t column, size_t width, const char *text, FILE *to)
{
        int pad = (int)(width - width_of(text));
        bool last = column + 1 == t->n_columns;

        if (t->titles[column][0] == '>')
                fprintf(to, "%*s%s", pad, "", text);
        else
                fprintf(to, "%s%*s", text, last ? 0 : pad, "");
        fputs(last ? "\n" : "  ", to);
}

static void print(const struct table *t, FILE *to, bool titles)
{
        size_t *widths = calloc(t->n_columns, sizeof(*widths));

        if (!widths)
                return;
        for (size_t c = 0; c < t->n_columns; c++)
                widths[c] = column_width(t, c, titles);
        for (size_t c = 0; titles && c < t->n_columns; c++)
                put_cell(t, c, widths[c], title_of(t, c), to);
        for (size_t i = 0; i < t->n_cells - t->n_cells % t->n_columns; i++)
                put_cell(t, i % t->n_columns, widths[i % t->n_columns], t->cells[i], to);
        free(widths);
}

void table_print(const struct table *t, FILE *to)
{
        print(t, to, true);
}

void table_print_plain(const struct table *t, FILE *to)
{
        print(t, to, false);
}
