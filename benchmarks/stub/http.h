/* HTTP/1.1 as S3 clients speak it: kept connections, `Expect`, chunked and aws-chunked bodies, TLS if compiled in. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SCRATCH_SIZE (1 << 20)
#define COMMON_HEADERS "Server: s3stub\r\nx-amz-request-id: 1\r\nDate: Fri, 01 Jan 2027 00:00:00 GMT\r\n"

struct connection {
    int socket;
    void *tls;  /* SSL *, or NULL */
    size_t buffered;
    char buffer[32768];
    unsigned char *scratch;  /* SCRATCH_SIZE bytes for bodies */
};

struct request {
    struct connection *connection;
    char *method, *path, *query, *headers;  /* headers: NUL-terminated lines, an empty one ends them */
    char bucket[64];
    const char *key;
    bool head;  /* HEAD: answer without a body */
};

/* How slow the server pretends to be. */
extern struct pace {
    int first_byte_ms;          /* before each answer */
    int complete_ms;            /* before the answer to CompleteMultipartUpload */
    uint64_t bytes_per_second;  /* of each connection, 0 is unlimited */
    uint64_t link_bytes_per_second;  /* of all together, each way by itself; 0 is unlimited */
} pace;

/* Calls `handle` for each request of a connection until it returns false or the peer leaves; closes it. */
void http_serve(struct connection *connection, bool (*handle)(struct request *));

const char *header(const struct request *request, const char *name);  /* NULL when absent */
/* A decoded query value; false when absent.  `value` may be NULL. */
bool query(const struct request *request, const char *name, char *value, size_t size);

/* A layer of a request's body: the connection, or chunks inside the layer below. */
struct layer {
    struct connection *connection;
    struct layer *below;
    uint64_t left;
    bool ended;
};
struct body {
    struct layer wire, chunks, aws_chunks, *top;
    uint64_t length;  /* decoded, as announced; 0 when nobody said */
    bool framed;      /* some chunk framing is around the bytes */
};
bool body_open(struct request *request, struct body *body);
ssize_t body_read(struct body *body, void *data, size_t size);  /* 0 at the end, -1 on a broken one */
/* Throws all of it away without looking at it; cheap, because the kernel need not copy. */
bool body_drain(struct body *body);

bool http_write(struct connection *connection, const void *data, size_t size);
/* A whole answer.  `headers` are lines that end in CRLF, or NULL. */
bool answer(const struct request *request, const char *status, const char *headers, const char *type,
            const void *data, size_t size);
/* Pattern bytes from `start`, after a head that was already written. */
bool http_send_pattern(struct connection *connection, uint64_t start, uint64_t length);
void sleep_ms(int ms);

bool tls_setup(const char *certificate, const char *key);  /* false where TLS was not compiled in */
bool tls_accept(struct connection *connection);
