#include "s3.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "md5.h"
#include "pattern.h"
#include "store.h"

/* Understands `bytes=a-b`, `bytes=a-` and `bytes=-n`; false when nothing of it is inside the object. */
static bool parse_range(const char *range, uint64_t size, uint64_t *first, uint64_t *last) {
    char *end;
    if (range[6] == '-') {
        uint64_t length = strtoull(range + 7, NULL, 10);
        *first = length < size ? size - length : 0;
        return size && length;
    }
    *first = strtoull(range + 6, &end, 10);
    if (*end == '-' && isdigit((unsigned char)end[1])) {
        uint64_t wanted = strtoull(end + 1, NULL, 10);
        if (wanted < *last) *last = wanted;
    }
    return *first < size && *first <= *last;
}

bool get_object(struct request *request) {
    char name[1200], head[1024], range_line[128] = "";
    full_name(request, name, sizeof name);
    request->head ? counters.head++ : counters.get++;

    struct object object = {0};
    char *kept = NULL;
    pthread_mutex_lock(&store_lock);
    struct object *found = store_find(name);
    if (found) object = *found;
    if (found && found->kept) kept = memcpy(malloc(found->size + 1), found->kept, found->size);
    pthread_mutex_unlock(&store_lock);
    if (!found) return error_answer(request, "404 Not Found", "NoSuchKey");

    const char *match = header(request, "if-match"), *none = header(request, "if-none-match");
    const char *range = header(request, "range");
    uint64_t first = 0, last = object.size ? object.size - 1 : 0;
    bool partial = range && !strncmp(range, "bytes=", 6), good = true;
    if (match && !names_etag(match, object.etag)) {
        good = error_answer(request, "412 Precondition Failed", "PreconditionFailed");
    } else if (none && names_etag(none, object.etag)) {
        good = answer(request, "304 Not Modified", NULL, "application/xml", NULL, 0);
    } else if (partial && !parse_range(range, object.size, &first, &last)) {
        good = error_answer(request, "416 Range Not Satisfiable", "InvalidRange");
    } else {
        uint64_t length = object.size ? last - first + 1 : 0;
        if (partial) snprintf(range_line, sizeof range_line, "Content-Range: bytes %llu-%llu/%llu\r\n",
                              (unsigned long long)first, (unsigned long long)last, (unsigned long long)object.size);
        int size = snprintf(head, sizeof head,
            "HTTP/1.1 %s\r\n" COMMON_HEADERS "Accept-Ranges: bytes\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
            "ETag: \"%s\"\r\nContent-Type: %s\r\n%sContent-Length: %llu\r\n\r\n",
            partial ? "206 Partial Content" : "200 OK", object.etag, object.type, range_line, (unsigned long long)length);
        sleep_ms(pace.first_byte_ms);
        good = http_write(request->connection, head, size);
        if (good && !request->head) {
            good = kept ? http_write(request->connection, kept + first, length)
                        : http_send_pattern(request->connection, pattern_start(name) + first, length);
            counters.bytes_out += length;
        }
    }
    free(kept);
    return good;
}

bool put_object(struct request *request) {
    char name[1200], etag[64] = "", hex[33];
    const char *only_new = header(request, "if-none-match"), *only_same = header(request, "if-match");
    const char *type = header(request, "content-type");
    struct body body;
    struct pattern_check check = {0};
    uint64_t size;
    full_name(request, name, sizeof name);
    if (!body_open(request, &body)) return false;
    bool control = strstr(name, "/.syncer/") != NULL;  /* a manifest is read again, however many files it has */
    bool keep = (body.length <= KEPT_SIZE || control) && !(body.framed && !body.length);
    char *kept = keep ? malloc(body.length + 1) : NULL;
    if (!take_body(request, &body, kept, &check, &size)) {
        free(kept);
        return false;
    }
    counters.put++;
    unsigned char digest[16];
    uint64_t start = pattern_found(&check);
    bool is_md5 = !bucket_is_opaque(request) && (kept || start != PATTERN_UNKNOWN);
    if (is_md5 && kept) md5_hex(kept, size, hex);
    if (is_md5 && !kept) {
        pattern_md5(start, size, digest);
        md5_print(digest, hex);
    }
    pthread_mutex_lock(&store_lock);
    struct object *there = store_find(name);
    bool clash = (only_new && there && names_etag(only_new, there->etag)) ||
                 (only_same && (!there || !names_etag(only_same, there->etag)));
    if (!clash) {
        struct object *object = store_put(name, size, kept);
        if (type) snprintf(object->type, sizeof object->type, "%s", type);
        if (is_md5) memcpy(object->etag, hex, sizeof hex);
        if (options.checking && size >= 8) object->check = start == pattern_start(name) ? CHECK_RIGHT : CHECK_WRONG;
        memcpy(etag, object->etag, sizeof etag);
    }
    pthread_mutex_unlock(&store_lock);
    if (!clash) return etag_answer(request, etag);
    free(kept);
    return error_answer(request, "412 Precondition Failed", "PreconditionFailed");
}

bool delete_one(struct request *request) {
    char name[1200], id[64];
    struct body body;
    full_name(request, name, sizeof name);
    if (!body_open(request, &body) || !body_drain(&body)) return false;
    bool known = true;
    pthread_mutex_lock(&store_lock);
    if (query(request, "uploadId", id, sizeof id)) {
        struct upload *upload = store_find_upload(name, id);
        known = upload != NULL;
        if (upload) store_drop_upload(upload);
    } else {
        store_delete(name);
        counters.delete++;
    }
    pthread_mutex_unlock(&store_lock);
    if (!known) return error_answer(request, "404 Not Found", "NoSuchUpload");
    return answer(request, "204 No Content", NULL, "application/xml", NULL, 0);
}

bool delete_objects(struct request *request, char *document) {
    struct text text = {0};
    text_add(&text, "<?xml version=\"1.0\"?><DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    pthread_mutex_lock(&store_lock);
    for (char *key = document; (key = strstr(key, "<Key>"));) {
        char *end = strstr(key += 5, "</Key>"), name[1200];
        if (!end) break;
        *end = 0;
        unescape_xml(key);
        snprintf(name, sizeof name, "%s/%s", request->bucket, key);
        store_delete(name);
        counters.delete++;
        text_add(&text, "<Deleted><Key>");
        text_add_xml(&text, key);
        text_add(&text, "</Key></Deleted>");
        key = end + 1;
    }
    pthread_mutex_unlock(&store_lock);
    text_add(&text, "</DeleteResult>");
    return xml_answer(request, &text);
}
