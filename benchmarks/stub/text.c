#include "text.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reserve(struct text *text, size_t more) {
    if (text->length + more <= text->capacity) return;
    text->capacity = (text->length + more) * 2;
    text->data = realloc(text->data, text->capacity);
    if (!text->data) abort();
}

void text_add(struct text *text, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int length = vsnprintf(NULL, 0, format, values);
    va_end(values);
    reserve(text, length + 1);
    va_start(values, format);
    vsnprintf(text->data + text->length, length + 1, format, values);
    va_end(values);
    text->length += length;
}

void text_add_xml(struct text *text, const char *value) {
    for (; *value; value++) {
        switch (*value) {
        case '&': text_add(text, "&amp;"); break;
        case '<': text_add(text, "&lt;"); break;
        case '>': text_add(text, "&gt;"); break;
        case '"': text_add(text, "&quot;"); break;
        default: text_add(text, "%c", *value);
        }
    }
}

void text_add_json(struct text *text, const char *value) {
    text_add(text, "\"");
    for (; *value; value++) {
        if (*value == '"' || *value == '\\') text_add(text, "\\%c", *value);
        else if ((unsigned char)*value < ' ') text_add(text, "\\u%04x", *value);
        else text_add(text, "%c", *value);
    }
    text_add(text, "\"");
}

void text_add_url(struct text *text, const char *value) {
    for (; *value; value++) {
        unsigned char c = *value;
        if (isalnum(c) || strchr("-_.~/", c)) text_add(text, "%c", c);
        else text_add(text, "%%%02X", c);
    }
}

void text_free(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

void unescape_url(char *value, int plus) {
    char *out = value;
    for (; *value; value++) {
        if (*value == '%' && isxdigit((unsigned char)value[1]) && isxdigit((unsigned char)value[2])) {
            char digits[3] = {value[1], value[2], 0};
            *out++ = (char)strtol(digits, NULL, 16);
            value += 2;
        } else {
            *out++ = plus && *value == '+' ? ' ' : *value;
        }
    }
    *out = 0;
}

void unescape_xml(char *value) {
    static const struct { const char *name; char character; } entities[] = {
        {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''},
    };
    char *out = value;
    while (*value) {
        size_t length = 1;
        char character = *value;
        for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
            size_t n = strlen(entities[i].name);
            if (!strncmp(value, entities[i].name, n)) {
                length = n;
                character = entities[i].character;
            }
        }
        *out++ = character;
        value += length;
    }
    *out = 0;
}
