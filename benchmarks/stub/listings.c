#define _GNU_SOURCE
#include "s3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

#define LIST_PAGE 1000
#define NAMESPACE "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static void add_key(struct text *text, const char *key, bool encoded) {
    if (encoded) text_add_url(text, key);
    else text_add_xml(text, key);
}

bool list_objects(struct request *request) {
    char prefix[1024] = "", delimiter[16] = "", after[1100] = "", page[16] = "", name[1200], folder[1100] = "";
    query(request, "prefix", prefix, sizeof prefix);
    query(request, "delimiter", delimiter, sizeof delimiter);
    query(request, "start-after", after, sizeof after);
    query(request, "continuation-token", after, sizeof after);  /* our tokens are keys */
    bool first_version = !query(request, "list-type", NULL, 0);
    if (first_version) query(request, "marker", after, sizeof after);
    bool encoded = query(request, "encoding-type", NULL, 0), truncated = false;
    size_t most = query(request, "max-keys", page, sizeof page) ? strtoul(page, NULL, 10) : LIST_PAGE;
    if (most > LIST_PAGE) most = LIST_PAGE;

    struct text text = {0}, folders = {0};
    size_t count = 0, bucket = strlen(request->bucket) + 1;
    const char *last = "";
    counters.list++;
    text_add(&text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult " NAMESPACE ">");
    snprintf(name, sizeof name, "%s/%s", request->bucket, prefix);
    pthread_mutex_lock(&store_lock);
    for (size_t i = store_seek(name); i < store.count && !strncmp(store.objects[i]->name, name, strlen(name)); i++) {
        struct object *object = store.objects[i];
        const char *key = object->name + bucket, *cut = *delimiter ? strstr(key + strlen(prefix), delimiter) : NULL;
        size_t length = cut ? (size_t)(cut - key) + strlen(delimiter) : strlen(key);
        if (strncmp(key, after, length) < 0 || (strlen(after) >= length && !strncmp(key, after, length))) continue;
        if (cut && strlen(folder) == length && !strncmp(folder, key, length)) continue;
        if (count == most) {
            truncated = true;
            break;
        }
        count++, last = key;
        if (cut) {
            snprintf(folder, sizeof folder, "%.*s", (int)length, key);
            text_add(&folders, "<CommonPrefixes><Prefix>");
            add_key(&folders, folder, encoded);
            text_add(&folders, "</Prefix></CommonPrefixes>");
            last = folder;
            continue;
        }
        text_add(&text, "<Contents><Key>");
        add_key(&text, key, encoded);
        text_add(&text, "</Key><LastModified>" DATE "</LastModified><ETag>&quot;%s&quot;</ETag><Size>%llu</Size>"
                 "<StorageClass>STANDARD</StorageClass></Contents>", object->etag, (unsigned long long)object->size);
    }
    if (truncated) {
        text_add(&text, "<NextContinuationToken>");
        text_add_xml(&text, last);
        text_add(&text, "</NextContinuationToken>");
        if (first_version) {
            text_add(&text, "<NextMarker>");
            add_key(&text, last, encoded);
            text_add(&text, "</NextMarker>");
        }
    }
    pthread_mutex_unlock(&store_lock);
    text_add(&text, "%s<Name>%s</Name><Prefix>", folders.data ? folders.data : "", request->bucket);
    add_key(&text, prefix, encoded);
    text_add(&text, "</Prefix><MaxKeys>%zu</MaxKeys><KeyCount>%zu</KeyCount>%s<IsTruncated>%s</IsTruncated>", most, count,
             encoded ? "<EncodingType>url</EncodingType>" : "", truncated ? "true" : "false");
    text_add(&text, "</ListBucketResult>");
    text_free(&folders);
    return xml_answer(request, &text);
}

bool list_uploads(struct request *request) {
    char prefix[1024] = "", name[1200];
    query(request, "prefix", prefix, sizeof prefix);
    snprintf(name, sizeof name, "%s/%s", request->bucket, prefix);
    bool encoded = query(request, "encoding-type", NULL, 0);
    struct text text = {0};
    text_add(&text, "<?xml version=\"1.0\"?><ListMultipartUploadsResult " NAMESPACE ">"
             "<Bucket>%s</Bucket>%s<IsTruncated>false</IsTruncated>", request->bucket,
             encoded ? "<EncodingType>url</EncodingType>" : "");
    pthread_mutex_lock(&store_lock);
    for (size_t i = 0; i < store.upload_count; i++) {
        if (strncmp(store.uploads[i]->name, name, strlen(name))) continue;
        text_add(&text, "<Upload><Key>");
        add_key(&text, store.uploads[i]->name + strlen(request->bucket) + 1, encoded);
        text_add(&text, "</Key><UploadId>%s</UploadId><Initiated>" DATE "</Initiated></Upload>", store.uploads[i]->id);
    }
    pthread_mutex_unlock(&store_lock);
    text_add(&text, "</ListMultipartUploadsResult>");
    return xml_answer(request, &text);
}

bool list_parts(struct request *request, const char *id) {
    char name[1200], after[16] = "0";
    full_name(request, name, sizeof name);
    query(request, "part-number-marker", after, sizeof after);
    struct text text = {0};
    text_add(&text, "<?xml version=\"1.0\"?><ListPartsResult " NAMESPACE ">");
    pthread_mutex_lock(&store_lock);
    struct upload *upload = store_find_upload(name, id);
    size_t count = 0, i = 0;
    for (; upload && i < upload->count && count < LIST_PAGE; i++) {
        struct part *part = &upload->parts[i];
        if (part->number <= atoi(after)) continue;
        count++;
        text_add(&text, "<Part><PartNumber>%d</PartNumber><LastModified>" DATE "</LastModified>", part->number);
        text_add(&text, "<ETag>&quot;%s&quot;</ETag><Size>%llu</Size></Part>", part->etag, (unsigned long long)part->size);
    }
    if (upload) text_add(&text, "<NextPartNumberMarker>%d</NextPartNumberMarker><IsTruncated>%s</IsTruncated>",
                         count ? upload->parts[i - 1].number : 0, i < upload->count ? "true" : "false");
    pthread_mutex_unlock(&store_lock);
    text_add(&text, "<UploadId>%s</UploadId></ListPartsResult>", id);
    if (upload) return xml_answer(request, &text);
    text_free(&text);
    return error_answer(request, "404 Not Found", "NoSuchUpload");
}

bool stats(struct request *request) {
    struct text text = {0};
    text_add(&text, "{\"get\": %llu, \"head\": %llu, \"list\": %llu, \"put\": %llu, \"part\": %llu, \"delete\": %llu, ",
             (unsigned long long)counters.get, (unsigned long long)counters.head, (unsigned long long)counters.list,
             (unsigned long long)counters.put, (unsigned long long)counters.part, (unsigned long long)counters.delete);
    text_add(&text, "\"bytes_out\": %llu, \"bytes_in\": %llu, \"connections\": %llu, \"requests\": %llu, ",
             (unsigned long long)counters.bytes_out, (unsigned long long)counters.bytes_in,
             (unsigned long long)counters.connections, (unsigned long long)counters.requests);
    pthread_mutex_lock(&store_lock);
    text_add(&text, "\"open_uploads\": %zu, \"objects\": [", store.upload_count);
    const char *separator = "";
    for (size_t i = 0; i < store.count; i++) {
        static const char *const checks[] = {"null", "true", "false"};
        struct object *object = store.objects[i];
        if (object->source) continue;
        text_add(&text, "%s{\"name\": ", separator);
        text_add_json(&text, object->name);
        text_add(&text, ", \"size\": %llu, \"right\": %s}", (unsigned long long)object->size, checks[object->check]);
        separator = ", ";
    }
    pthread_mutex_unlock(&store_lock);
    text_add(&text, "]}\n");
    bool good = answer(request, "200 OK", NULL, "application/json", text.data, text.length);
    text_free(&text);
    return good;
}
