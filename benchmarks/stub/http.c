#define _GNU_SOURCE
#include "http.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"
#include "text.h"
#ifdef WITH_TLS
#include <openssl/ssl.h>
static SSL_CTX *tls_context;
#endif

struct pace pace;

/* ---------------------------------------------------------------- connection */

static ssize_t receive(struct connection *connection, void *data, size_t size, int flags) {
#ifdef WITH_TLS
    if (connection->tls) return SSL_read(connection->tls, data, size > 1 << 30 ? 1 << 30 : (int)size);
#endif
    return recv(connection->socket, data, size, flags);
}

bool http_write(struct connection *connection, const void *data, size_t size) {
    const char *bytes = data;
    while (size) {
        ssize_t sent;
#ifdef WITH_TLS
        if (connection->tls) sent = SSL_write(connection->tls, bytes, size > 262144 ? 262144 : (int)size);
        else
#endif
            sent = send(connection->socket, bytes, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes += sent, size -= sent;
    }
    return true;
}

bool tls_setup(const char *certificate, const char *key) {
#ifdef WITH_TLS
    tls_context = SSL_CTX_new(TLS_server_method());
    return SSL_CTX_use_certificate_chain_file(tls_context, certificate) == 1 &&
           SSL_CTX_use_PrivateKey_file(tls_context, key, SSL_FILETYPE_PEM) == 1;
#else
    (void)certificate, (void)key;
    return false;
#endif
}

bool tls_accept(struct connection *connection) {
#ifdef WITH_TLS
    connection->tls = SSL_new(tls_context);
    SSL_set_fd(connection->tls, connection->socket);
    return SSL_accept(connection->tls) > 0;
#else
    (void)connection;
    return false;
#endif
}

void sleep_ms(int ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    if (ms > 0) nanosleep(&time, NULL);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* What all connections together may move in one direction: who moves `size` bytes books the next free time and waits
 * for it.  What was not used is lost but for the last 20 ms, so that nobody is late for ever. */
static struct link {
    pthread_mutex_t lock;
    double free_at;
} outwards = {PTHREAD_MUTEX_INITIALIZER, 0}, inwards = {PTHREAD_MUTEX_INITIALIZER, 0};

static void cross(struct link *link, size_t size) {
    if (!pace.link_bytes_per_second) return;
    pthread_mutex_lock(&link->lock);
    double moment = now();
    if (link->free_at < moment - 0.02) link->free_at = moment - 0.02;
    link->free_at += (double)size / (double)pace.link_bytes_per_second;
    double wait = link->free_at - moment;
    pthread_mutex_unlock(&link->lock);
    if (wait > 0.001) sleep_ms((int)(wait * 1000));
}

/* Bytes that are moved at once: a link that is shared is shared in small pieces. */
static size_t piece(size_t size, size_t most) {
    if (pace.link_bytes_per_second && most > 256u << 10) most = 256u << 10;
    return size < most ? size : most;
}

static void forget(struct connection *connection, size_t size) {
    connection->buffered -= size;
    memmove(connection->buffer, connection->buffer + size, connection->buffered);
}

/* ---------------------------------------------------------------- requests */

const char *header(const struct request *request, const char *name) {
    size_t length = strlen(name);
    for (const char *line = request->headers; *line; line += strlen(line) + 2)
        if (!strncasecmp(line, name, length) && line[length] == ':') {
            const char *value = line + length + 1;
            return value + strspn(value, " ");
        }
    return NULL;
}

bool query(const struct request *request, const char *name, char *value, size_t size) {
    size_t length = strlen(name);
    for (const char *at = request->query; *at;) {
        const char *end = strchrnul(at, '&');
        if (!strncmp(at, name, length) && strchr("=&", at[length])) {
            const char *from = at[length] == '=' ? at + length + 1 : end;
            if (value) {
                snprintf(value, size, "%.*s", (int)(end - from), from);
                unescape_url(value, 1);
            }
            return true;
        }
        at = *end ? end + 1 : end;
    }
    return false;
}

/* Reads one request's head.  The head stays in memory of its own (`*memory`) while the request is handled. */
static bool read_request(struct connection *connection, struct request *request, char **memory) {
    char *end;
    while (!(end = memmem(connection->buffer, connection->buffered, "\r\n\r\n", 4))) {
        size_t room = sizeof connection->buffer - connection->buffered;
        ssize_t got = room ? receive(connection, connection->buffer + connection->buffered, room, 0) : 0;
        if (got <= 0) return false;
        connection->buffered += got;
    }
    size_t length = end + 2 - connection->buffer;
    char *head = *memory = calloc(1, length + 3);
    memcpy(head, connection->buffer, length);
    forget(connection, length + 2);
    for (char *line = head; (line = strstr(line, "\r\n")); line += 2) line[0] = line[1] = 0;

    *request = (struct request){.connection = connection, .headers = head + strlen(head) + 2, .query = ""};
    char *rest = NULL;
    request->method = strtok_r(head, " ", &rest);
    request->path = strtok_r(NULL, " ", &rest);
    if (!request->method || !request->path) return false;
    char *question = strchr(request->path, '?');
    if (question) {
        *question = 0;
        request->query = question + 1;
    }
    unescape_url(request->path, 0);
    request->head = !strcmp(request->method, "HEAD");
    const char *bucket = request->path + strspn(request->path, "/"), *slash = strchrnul(bucket, '/');
    snprintf(request->bucket, sizeof request->bucket, "%.*s", (int)(slash - bucket), bucket);
    request->key = *slash ? slash + 1 : slash;
    return true;
}

void http_serve(struct connection *connection, bool (*handle)(struct request *)) {
    struct request request;
    bool more = true;
    connection->scratch = malloc(SCRATCH_SIZE);
    while (more) {
        char *memory = NULL;
        more = read_request(connection, &request, &memory) && handle(&request);
        const char *kept = more ? header(&request, "connection") : NULL;
        if (kept && !strncasecmp(kept, "close", 5)) more = false;
        free(memory);
    }
#ifdef WITH_TLS
    if (connection->tls) SSL_free(connection->tls);
#endif
    close(connection->socket);
    free(connection->scratch);
    free(connection);
}

/* ---------------------------------------------------------------- bodies */

static ssize_t layer_read(struct layer *layer, void *data, size_t size);

static bool read_line(struct layer *layer, char *line, size_t size) {
    size_t length = 0;
    for (char character;;) {
        if (layer_read(layer, &character, 1) != 1) return false;
        if (character == '\n') break;
        if (character != '\r' && length + 1 < size) line[length++] = character;
    }
    line[length] = 0;
    return true;
}

static ssize_t read_wire(struct layer *layer, void *data, size_t size) {
    struct connection *connection = layer->connection;
    if (size > layer->left) size = layer->left;
    if (!size) return 0;
    ssize_t got;
    if (connection->buffered) {
        got = (ssize_t)(size < connection->buffered ? size : connection->buffered);
        memcpy(data, connection->buffer, got);
        forget(connection, got);
    } else {
        got = receive(connection, data, size, 0);
    }
    if (got <= 0) return -1;
    layer->left -= got;
    return got;
}

static ssize_t layer_read(struct layer *layer, void *data, size_t size) {
    char line[512];
    if (!layer->below) return read_wire(layer, data, size);
    if (layer->ended) return 0;
    if (!layer->left) {
        if (!read_line(layer->below, line, sizeof line)) return -1;
        layer->left = strtoull(line, NULL, 16);
        if (!layer->left) {  /* the end: trailers, then an empty line, which aws-chunked may leave out */
            layer->ended = true;
            while (read_line(layer->below, line, sizeof line) && *line) continue;
            return 0;
        }
    }
    ssize_t got = layer_read(layer->below, data, size < layer->left ? size : layer->left);
    if (got <= 0) return -1;
    layer->left -= got;
    if (!layer->left) read_line(layer->below, line, sizeof line);
    return got;
}

bool body_open(struct request *request, struct body *body) {
    const char *length = header(request, "content-length"), *decoded = header(request, "x-amz-decoded-content-length");
    const char *transfer = header(request, "transfer-encoding"), *content = header(request, "content-encoding");
    const char *hash = header(request, "x-amz-content-sha256");
    bool chunked = transfer && strcasestr(transfer, "chunked");
    bool aws = (content && strcasestr(content, "aws-chunked")) || (hash && !strncmp(hash, "STREAMING-", 10));
    uint64_t wire = length ? strtoull(length, NULL, 10) : 0;

    *body = (struct body){.length = aws && decoded ? strtoull(decoded, NULL, 10) : wire, .framed = chunked || aws};
    body->wire = (struct layer){.connection = request->connection, .left = chunked ? UINT64_MAX : wire};
    body->top = &body->wire;
    if (chunked) {
        body->chunks = (struct layer){.below = body->top};
        body->top = &body->chunks;
    }
    if (aws) {
        body->aws_chunks = (struct layer){.below = body->top};
        body->top = &body->aws_chunks;
    }
    if (!header(request, "expect")) return true;
    return http_write(request->connection, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

ssize_t body_read(struct body *body, void *data, size_t size) {
    ssize_t got = layer_read(body->top, data, size);
    if (got || body->top == &body->wire) return got;
    char rest[512];  /* what stands behind the last chunk of the inner framing belongs to this request too */
    struct layer *outer = body->chunks.below ? &body->chunks : &body->wire;
    while (outer != body->top && layer_read(outer, rest, sizeof rest) > 0) continue;
    return 0;
}

bool body_drain(struct body *body) {
    struct connection *connection = body->wire.connection;
    ssize_t got;
    if (body->chunks.below) {  /* only a reader of the chunks knows where they end */
        while ((got = body_read(body, connection->scratch, SCRATCH_SIZE)) > 0) continue;
        return got == 0;
    }
    uint64_t left = body->wire.left, taken = connection->buffered < left ? connection->buffered : left;
    double started = now();
    forget(connection, taken);
    while (taken < left) {
        got = receive(connection, connection->scratch, piece(left - taken, SCRATCH_SIZE), MSG_TRUNC);
        if (got <= 0) return false;
        taken += got;
        cross(&inwards, got);
        if (!pace.bytes_per_second) continue;
        double ahead = (double)taken / (double)pace.bytes_per_second - (now() - started);
        if (ahead > 0.002) sleep_ms((int)(ahead * 1000));
    }
    body->wire.left = 0;
    return true;
}

/* ---------------------------------------------------------------- answers */

bool answer(const struct request *request, const char *status, const char *headers, const char *type,
            const void *data, size_t size) {
    struct text text = {0};
    text_add(&text, "HTTP/1.1 %s\r\n" COMMON_HEADERS "Content-Type: %s\r\n%s", status, type, headers ? headers : "");
    if (strncmp(status, "204", 3)) text_add(&text, "Content-Length: %zu\r\n", size);
    text_add(&text, "\r\n");
    sleep_ms(pace.first_byte_ms);
    bool good = http_write(request->connection, text.data, text.length) &&
                (request->head || !size || http_write(request->connection, data, size));
    text_free(&text);
    return good;
}

bool http_send_pattern(struct connection *connection, uint64_t start, uint64_t length) {
    while (length) {
        off_t at = (off_t)(start % PATTERN_PERIOD);
        uint64_t size = PATTERN_PERIOD - at;
        if (size > length) size = length;
        size = piece(size, 8u << 20);
        cross(&outwards, size);
        ssize_t sent = (ssize_t)size;
        if (!connection->tls) sent = sendfile(connection->socket, pattern_file(), &at, size);
        else if (!http_write(connection, pattern_data() + at, size)) return false;
        if (sent <= 0) return false;
        start += sent, length -= sent;
    }
    return true;
}
