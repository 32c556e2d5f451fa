#include "s3.h"

#include <stdio.h>
#include <string.h>

#include "md5.h"
#include "pattern.h"
#include "store.h"

bool take_body(struct request *request, struct body *body, char *kept, struct pattern_check *check, uint64_t *size) {
    unsigned char *scratch = request->connection->scratch;
    bool all = kept || options.checking || (body->framed && !body->length);
    ssize_t got = 0;
    *size = 0;
    while ((all || *size < sizeof check->first) &&
           (got = body_read(body, scratch, all ? SCRATCH_SIZE : sizeof check->first - *size)) > 0) {
        if (kept && *size + got <= body->length) memcpy(kept + *size, scratch, got);
        pattern_compare(check, scratch, got);
        *size += got;
    }
    if (got < 0 || (!all && !body_drain(body))) return false;
    if (!all) *size = body->length;
    counters.bytes_in += *size;
    return true;
}

bool begin_upload(struct request *request) {
    char name[1200], id[32];
    const char *type = header(request, "content-type");
    full_name(request, name, sizeof name);
    pthread_mutex_lock(&store_lock);
    struct upload *upload = store_begin_upload(name);
    if (type) snprintf(upload->type, sizeof upload->type, "%s", type);
    memcpy(id, upload->id, sizeof id);
    pthread_mutex_unlock(&store_lock);
    struct text text = {0};
    text_add(&text, "<?xml version=\"1.0\"?><InitiateMultipartUploadResult><Bucket>%s</Bucket><Key>", request->bucket);
    text_add_xml(&text, request->key);
    text_add(&text, "</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id);
    return xml_answer(request, &text);
}

bool put_part(struct request *request, const char *id, int number) {
    char name[1200], etag[64] = "";
    struct body body;
    struct pattern_check check = {0};
    uint64_t size;
    full_name(request, name, sizeof name);
    if (!body_open(request, &body) || !take_body(request, &body, NULL, &check, &size)) return false;
    counters.part++;
    struct part fresh = {.number = number, .size = size, .start = pattern_found(&check)};
    if (fresh.start != PATTERN_UNKNOWN && !bucket_is_opaque(request)) {
        pattern_md5(fresh.start, size, fresh.md5);
        md5_print(fresh.md5, fresh.etag);
        fresh.is_md5 = true;
    }
    pthread_mutex_lock(&store_lock);
    struct upload *upload = store_find_upload(name, id);
    if (upload) memcpy(etag, store_put_part(upload, fresh)->etag, sizeof etag);
    pthread_mutex_unlock(&store_lock);
    return upload ? etag_answer(request, etag) : error_answer(request, "404 Not Found", "NoSuchUpload");
}

bool complete_upload(struct request *request, const char *id) {
    char name[1200], etag[64] = "";
    full_name(request, name, sizeof name);
    pthread_mutex_lock(&store_lock);
    struct upload *upload = store_find_upload(name, id);
    if (upload) memcpy(etag, store_complete(upload, options.checking)->etag, sizeof etag);
    pthread_mutex_unlock(&store_lock);
    if (!upload) return error_answer(request, "404 Not Found", "NoSuchUpload");
    sleep_ms(pace.complete_ms);
    struct text text = {0};
    text_add(&text, "<?xml version=\"1.0\"?><CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>", request->bucket);
    text_add_xml(&text, request->key);
    text_add(&text, "</Key><ETag>&quot;%s&quot;</ETag></CompleteMultipartUploadResult>", etag);
    return xml_answer(request, &text);
}
