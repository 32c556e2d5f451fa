#include "s3.h"

#include <stdio.h>
#include <string.h>

#include "store.h"

bool xml_answer(struct request *request, struct text *text) {
    bool good = answer(request, "200 OK", NULL, "application/xml", text->data, text->length);
    text_free(text);
    return good;
}

bool error_answer(struct request *request, const char *status, const char *code) {
    struct text text = {0};
    text_add(&text, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, code);
    bool good = answer(request, status, NULL, "application/xml", text.data, text.length);
    text_free(&text);
    return good;
}

bool empty_answer(struct request *request, const char *headers) {
    return answer(request, "200 OK", headers, "application/xml", NULL, 0);
}

void full_name(const struct request *request, char *name, size_t size) {
    snprintf(name, size, "%s/%s", request->bucket, request->key);
}

bool names_etag(const char *value, const char *etag) {
    return strchr(value, '*') || strstr(value, etag);
}

bool etag_answer(struct request *request, const char *etag) {
    char line[128];
    snprintf(line, sizeof line, "ETag: \"%s\"\r\n", etag);
    return empty_answer(request, line);
}

bool bucket_is_opaque(const struct request *request) {
    pthread_mutex_lock(&store_lock);
    struct bucket *bucket = store_find_bucket(request->bucket);
    bool opaque = bucket && bucket->opaque;
    pthread_mutex_unlock(&store_lock);
    return opaque;
}
