/* A text that grows, with the escapes that XML, JSON and URLs need. */
#pragma once
#include <stddef.h>

struct text {
    char *data;
    size_t length, capacity;
};

void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_add_xml(struct text *text, const char *value);
void text_add_json(struct text *text, const char *value);  /* with its quotes */
void text_add_url(struct text *text, const char *value);
void text_free(struct text *text);

/* Decode in place.  `plus` says whether a plus sign stands for a space: in a query it does, in a path it does not. */
void unescape_url(char *value, int plus);
void unescape_xml(char *value);
