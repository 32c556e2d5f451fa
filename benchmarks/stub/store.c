#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "md5.h"
#include "pattern.h"

struct store store;
pthread_mutex_t store_lock = PTHREAD_MUTEX_INITIALIZER;

void store_add_bucket(const char *name, bool opaque) {
    if (store_find_bucket(name)) return;
    store.buckets = realloc(store.buckets, (store.bucket_count + 1) * sizeof *store.buckets);
    struct bucket *bucket = &store.buckets[store.bucket_count++];
    *bucket = (struct bucket){.opaque = opaque};
    snprintf(bucket->name, sizeof bucket->name, "%s", name);
}

struct bucket *store_find_bucket(const char *name) {
    for (size_t i = 0; i < store.bucket_count; i++)
        if (!strcmp(store.buckets[i].name, name)) return &store.buckets[i];
    return NULL;
}

size_t store_seek(const char *name) {
    size_t low = 0, high = store.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(store.objects[middle]->name, name) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

struct object *store_find(const char *name) {
    size_t at = store_seek(name);
    return at < store.count && !strcmp(store.objects[at]->name, name) ? store.objects[at] : NULL;
}

static void free_object(struct object *object) {
    free(object->name);
    free(object->kept);
    free(object);
}

struct object *store_put(const char *name, uint64_t size, char *kept) {
    store_delete(name);
    size_t at = store_seek(name);
    store.objects = realloc(store.objects, (store.count + 1) * sizeof *store.objects);
    memmove(store.objects + at + 1, store.objects + at, (store.count - at) * sizeof *store.objects);
    store.count++;
    struct object *object = store.objects[at] = calloc(1, sizeof *object);
    *object = (struct object){.name = strdup(name), .size = size, .kept = kept, .type = "binary/octet-stream"};
    snprintf(object->etag, sizeof object->etag, "stub-%llu", (unsigned long long)++store.versions);
    return object;
}

bool store_delete(const char *name) {
    struct object *object = store_find(name);
    if (!object) return false;
    size_t at = store_seek(name);
    store.count--;
    memmove(store.objects + at, store.objects + at + 1, (store.count - at) * sizeof *store.objects);
    free_object(object);
    return true;
}

struct upload *store_begin_upload(const char *name) {
    store.uploads = realloc(store.uploads, (store.upload_count + 1) * sizeof *store.uploads);
    struct upload *upload = store.uploads[store.upload_count++] = calloc(1, sizeof *upload);
    upload->name = strdup(name);
    snprintf(upload->id, sizeof upload->id, "upload-%llu", (unsigned long long)++store.versions);
    return upload;
}

struct upload *store_find_upload(const char *name, const char *id) {
    for (size_t i = 0; i < store.upload_count; i++)
        if (!strcmp(store.uploads[i]->id, id) && !strcmp(store.uploads[i]->name, name)) return store.uploads[i];
    return NULL;
}

struct part *store_put_part(struct upload *upload, struct part fresh) {
    size_t at = upload->count;
    while (at && upload->parts[at - 1].number >= fresh.number) at--;
    if (at == upload->count || upload->parts[at].number != fresh.number) {
        upload->parts = realloc(upload->parts, (upload->count + 1) * sizeof *upload->parts);
        memmove(upload->parts + at + 1, upload->parts + at, (upload->count - at) * sizeof *upload->parts);
        upload->count++;
    }
    struct part *part = &upload->parts[at];
    *part = fresh;
    if (!*part->etag) snprintf(part->etag, sizeof part->etag, "stub-part-%llu", (unsigned long long)++store.versions);
    return part;
}

void store_drop_upload(struct upload *upload) {
    for (size_t i = 0; i < store.upload_count; i++) {
        if (store.uploads[i] != upload) continue;
        store.upload_count--;
        memmove(store.uploads + i, store.uploads + i + 1, (store.upload_count - i) * sizeof *store.uploads);
        break;
    }
    free(upload->name);
    free(upload->parts);
    free(upload);
}

struct object *store_complete(struct upload *upload, bool checked) {
    uint64_t size = 0, start = pattern_start(upload->name);
    bool right = true, composite = upload->count > 0;
    struct md5 md5;  /* the ETag of an upload is the MD5 of its parts' MD5s */
    unsigned char digest[16];
    md5_begin(&md5);
    for (size_t i = 0; i < upload->count; i++) {
        struct part *part = &upload->parts[i];
        right = right && part->start == (start + size) % PATTERN_PERIOD;
        composite = composite && part->is_md5;
        md5_add(&md5, part->md5, sizeof part->md5);
        size += part->size;
    }
    md5_end(&md5, digest);
    struct object *object = store_put(upload->name, size, NULL);
    if (composite) md5_print(digest, object->etag);
    size_t length = strlen(object->etag);
    snprintf(object->etag + length, sizeof object->etag - length, "-%zu", upload->count);
    if (*upload->type) memcpy(object->type, upload->type, sizeof object->type);
    if (checked) object->check = right ? CHECK_RIGHT : CHECK_WRONG;
    store_drop_upload(upload);
    return object;
}

void store_reset(void) {
    while (store.upload_count) store_drop_upload(store.uploads[0]);
    size_t kept = 0;
    for (size_t i = 0; i < store.count; i++) {
        if (store.objects[i]->source) store.objects[kept++] = store.objects[i];
        else free_object(store.objects[i]);
    }
    store.count = kept;
}
