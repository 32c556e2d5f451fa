/* The S3 operations of the stub, and what they share. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "http.h"
#include "text.h"

#define DATE "2026-01-01T00:00:00.000Z"

extern struct options {
    _Atomic bool checking;  /* compare uploaded bytes with the pattern of their object's name */
} options;
extern struct counters {
    _Atomic uint64_t get, head, list, put, part, delete, bytes_out, bytes_in, connections, requests;
} counters;

/* answers.c */
bool xml_answer(struct request *request, struct text *text);  /* frees the text */
bool error_answer(struct request *request, const char *status, const char *code);
bool empty_answer(struct request *request, const char *headers);
bool etag_answer(struct request *request, const char *etag);
void full_name(const struct request *request, char *name, size_t size);  /* bucket/key */
/* Is `etag` named by a precondition header's value: a star, or the ETag with or without quotes? */
bool names_etag(const char *value, const char *etag);
bool bucket_is_opaque(const struct request *request);  /* its ETags are no MD5s */

/* listings.c */
bool list_objects(struct request *request);
bool list_uploads(struct request *request);
bool list_parts(struct request *request, const char *id);
bool stats(struct request *request);

/* objects.c */
bool get_object(struct request *request);
bool put_object(struct request *request);
bool delete_one(struct request *request);  /* an object, or an open upload */
bool delete_objects(struct request *request, char *document);

/* uploads.c */
bool begin_upload(struct request *request);
bool put_part(struct request *request, const char *id, int number);
bool complete_upload(struct request *request, const char *id);
/* Takes a body in: into `kept` when that is not NULL, past the byte check when that is on, else away unseen but for the
 * first bytes, which say what it should be. */
struct body;
struct pattern_check;
bool take_body(struct request *request, struct body *body, char *kept, struct pattern_check *check, uint64_t *size);
