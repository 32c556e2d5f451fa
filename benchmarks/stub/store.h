/* What the stub holds: virtual source objects, uploaded objects, open multipart uploads.
 *
 * Bytes of small objects are kept; a big one is only its size, and reads as the pattern that its name stands for.
 * Every function is called with `store_lock` held.  What they return is good until it is let go.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEPT_SIZE (1u << 20)  /* a PUT up to this many bytes is kept for real */

/* What the byte check of an uploaded object said. */
enum check { CHECK_NONE, CHECK_RIGHT, CHECK_WRONG };

struct object {
    char *name;  /* bucket/key */
    uint64_t size;
    char etag[64], type[128];
    char *kept;  /* its bytes, or NULL for a virtual one */
    bool source;  /* came from the command line; survives a reset */
    enum check check;
};

struct part {
    int number;
    uint64_t size, start;  /* start in the pattern, or PATTERN_UNKNOWN */
    char etag[64];
    unsigned char md5[16];
    bool is_md5;  /* the ETag is the MD5 */
};

struct upload {
    char *name, id[32], type[128];
    struct part *parts;  /* in order of their numbers */
    size_t count;
};

struct store {
    struct object **objects;  /* in order of their names */
    size_t count;
    struct upload **uploads;  /* in order of their beginning */
    size_t upload_count;
    struct bucket {
        char name[64];
        bool opaque;  /* its ETags are no MD5s */
    } *buckets;
    size_t bucket_count;
    uint64_t versions;  /* counts everything that was ever written, for ETags and ids */
};
extern struct store store;
extern pthread_mutex_t store_lock;

void store_add_bucket(const char *name, bool opaque);
struct bucket *store_find_bucket(const char *name);
/* Index of the first object whose name is not below `name`. */
size_t store_seek(const char *name);
struct object *store_find(const char *name);
/* A new object of this name in place of what was there.  `kept` passes into its hands. */
struct object *store_put(const char *name, uint64_t size, char *kept);
bool store_delete(const char *name);
struct upload *store_begin_upload(const char *name);
struct upload *store_find_upload(const char *name, const char *id);
/* Adds a part or takes the place of the one of its number; without an ETag it gets one. */
struct part *store_put_part(struct upload *upload, struct part fresh);
void store_drop_upload(struct upload *upload);
/* The object that the parts make, virtual; the upload is gone. */
struct object *store_complete(struct upload *upload, bool checked);
/* Forgets all uploads and everything uploaded. */
void store_reset(void);
