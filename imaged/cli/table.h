/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/*
 * A table for people: the columns are as wide as their widest cell, and nothing is cut. A cell is printed as
 * it is, but for control characters, which become '?': names and texts come from other people.
 */
struct table;

/* titles: one per column; a title that starts with '>' makes the column align to the right. NULL: out of
 * memory. */
struct table *table_new(const char *const *titles, size_t n_columns);
struct table *table_free(struct table *t);
void table_freep(struct table **t);

/* A copy of the text in which every control character is a '?': terminals obey them. NULL: out of memory. */
char *text_printable(const char *text);

/* The next cell, row by row; NULL or "" prints as "-". 0 or -ENOMEM. */
int table_add(struct table *t, const char *text);
int table_addf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The titles in capitals, then the rows that are full. */
void table_print(const struct table *t, FILE *to);

/* "Name:    value" lines, of which the first column is as wide as needed: the same without titles. */
void table_print_plain(const struct table *t, FILE *to);
