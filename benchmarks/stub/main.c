/* A loopback S3 source and sink for measuring CLIENTS: cheap for the machine, so that what is measured is the client.
 *
 *     cc -O2 -pthread -o s3stub *.c                              (with TLS: -DWITH_TLS ... -lssl -lcrypto)
 *     ./s3stub -p 9000 -b dst -o src/models/big:4:1073741824
 *
 * Source objects are virtual (pattern.h) and leave by sendfile.  Uploads are drained by recv(MSG_TRUNC): the server
 * looks at the first eight bytes, by which it knows what the others should be and which MD5 they have, and touches the
 * others only when the byte check is on.  Objects up to 1 MiB are kept for real, so that control files can be read
 * back.  Path style only; signatures are not looked at; no server-side copy.
 *
 *     GET /_stats    JSON: counters, uploaded objects, number of open uploads
 *     GET /_reset    forget everything uploaded and the counters
 *     GET /_check/on, /_check/off   compare uploaded bytes with the pattern of the object's name
 *
 * Flags: -p port (0: any; the first line of output names it)   -a address   -b bucket   -o bucket/prefix:count:size
 *        -E bucket whose ETags are no MD5s, as some stores have them   -V byte check on
 *        -l ms first-byte latency   -r MiB/s of each connection   -R MiB/s of all connections together, each way
 *        -M ms before CompleteMultipartUpload answers
 *        -t certificate.pem:key.pem serve TLS instead of plain HTTP
 */
#define _GNU_SOURCE
#include "s3.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pattern.h"
#include "store.h"

struct options options;
struct counters counters;
static bool with_tls;

static bool own_page(struct request *request) {
    if (!strcmp(request->path, "/_stats")) return stats(request);
    if (!strcmp(request->path, "/_reset")) {
        pthread_mutex_lock(&store_lock);
        store_reset();
        pthread_mutex_unlock(&store_lock);
        counters.get = counters.head = counters.list = counters.put = counters.part = counters.delete = 0;
        counters.bytes_out = counters.bytes_in = counters.connections = counters.requests = 0;
    } else if (!strncmp(request->path, "/_check/", 8)) {
        options.checking = !strcmp(request->path + 8, "on");
    }
    return empty_answer(request, NULL);
}

static bool bucket_page(struct request *request) {
    const char *body = NULL;
    if (request->head) return empty_answer(request, NULL);
    if (query(request, "uploads", NULL, 0)) return list_uploads(request);
    if (query(request, "location", NULL, 0)) body = "<LocationConstraint/>";
    if (query(request, "versioning", NULL, 0)) body = "<VersioningConfiguration/>";
    return body ? answer(request, "200 OK", NULL, "application/xml", body, strlen(body)) : list_objects(request);
}

static bool post(struct request *request) {
    char id[64], document[1 << 17];
    struct body body;
    if (!body_open(request, &body)) return false;
    size_t size = 0;
    ssize_t got;
    while ((got = body_read(&body, request->connection->scratch, SCRATCH_SIZE)) > 0) {
        size_t room = sizeof document - 1 - size, taken = (size_t)got < room ? (size_t)got : room;
        memcpy(document + size, request->connection->scratch, taken);
        size += taken;
    }
    if (got < 0) return false;
    document[size] = 0;
    if (!*request->key && query(request, "delete", NULL, 0)) return delete_objects(request, document);
    if (query(request, "uploads", NULL, 0)) return begin_upload(request);
    if (query(request, "uploadId", id, sizeof id)) return complete_upload(request, id);
    return error_answer(request, "501 Not Implemented", "NotImplemented");
}

static bool put(struct request *request) {
    char number[16], id[64];
    struct body body;
    if (!*request->key) {
        if (!body_open(request, &body) || !body_drain(&body)) return false;
        pthread_mutex_lock(&store_lock);
        store_add_bucket(request->bucket, false);
        pthread_mutex_unlock(&store_lock);
        return empty_answer(request, NULL);
    }
    if (header(request, "x-amz-copy-source")) {
        if (!body_open(request, &body) || !body_drain(&body)) return false;
        return error_answer(request, "501 Not Implemented", "NotImplemented");
    }
    if (query(request, "partNumber", number, sizeof number) && query(request, "uploadId", id, sizeof id))
        return put_part(request, id, atoi(number));
    return put_object(request);
}

static bool handle(struct request *request) {
    char id[64];
    if (request->path[1] == '_') return own_page(request);
    counters.requests++;
    pthread_mutex_lock(&store_lock);
    bool known = store_find_bucket(request->bucket) != NULL;
    pthread_mutex_unlock(&store_lock);
    bool creates = !strcmp(request->method, "PUT") && !*request->key;
    if (!known && !creates) {
        struct body body;
        if (!body_open(request, &body) || !body_drain(&body)) return false;
        return error_answer(request, "404 Not Found", "NoSuchBucket");
    }
    if (!strcmp(request->method, "GET") || request->head) {
        if (!*request->key) return bucket_page(request);
        if (query(request, "uploadId", id, sizeof id)) return list_parts(request, id);
        return get_object(request);
    }
    if (!strcmp(request->method, "PUT")) return put(request);
    if (!strcmp(request->method, "POST")) return post(request);
    if (!strcmp(request->method, "DELETE")) return delete_one(request);
    return error_answer(request, "501 Not Implemented", "NotImplemented");
}


static void *serve(void *argument) {
    struct connection *connection = argument;
    counters.connections++;
    if (with_tls && !tls_accept(connection)) {
        close(connection->socket);
        free(connection);
        return NULL;
    }
    http_serve(connection, handle);
    return NULL;
}

static void add_sources(char *argument) {
    char *rest = NULL, *prefix = strtok_r(argument, ":", &rest);
    char *count = strtok_r(NULL, ":", &rest), *size = strtok_r(NULL, ":", &rest), name[1200], bucket[64];
    if (!count || !size || !strchr(prefix, '/')) {
        fprintf(stderr, "-o wants bucket/prefix:count:size\n");
        exit(2);
    }
    snprintf(bucket, sizeof bucket, "%.*s", (int)(strchr(prefix, '/') - prefix), prefix);
    store_add_bucket(bucket, false);
    int digits = atoi(count) > 1000 ? 6 : 3;  /* the order of the names is that of the numbers */
    for (int i = 0; i < atoi(count); i++) {
        snprintf(name, sizeof name, "%s%0*d.safetensors", prefix, digits, i);
        struct object *object = store_put(name, strtoull(size, NULL, 10), NULL);
        object->source = true;
        snprintf(object->etag, sizeof object->etag, "%032llx-2", (unsigned long long)pattern_start(name));
    }
}

static int listen_on(const char *address, int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof place;
    inet_pton(AF_INET, address, &place.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&place, size) || listen(listener, 512) ||
        getsockname(listener, (struct sockaddr *)&place, &size)) {
        perror("listen");
        exit(1);
    }
    printf("%d\n", ntohs(place.sin_port));
    fflush(stdout);
    return listener;
}

static void accept_forever(int listener) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 1 << 20);
    for (int one = 1;;) {
        int peer = accept(listener, NULL, NULL);
        if (peer < 0) continue;
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pace.bytes_per_second) {
            unsigned rate = (unsigned)pace.bytes_per_second;
            int receive_buffer = 1 << 20;
            setsockopt(peer, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate);
            setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        }
        struct connection *connection = calloc(1, sizeof *connection);
        connection->socket = peer;
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve, connection)) {
            close(peer);
            free(connection);
        }
    }
}

int main(int count, char **values) {
    int port = 9000;
    const char *address = "127.0.0.1";
    char *key;
    signal(SIGPIPE, SIG_IGN);
    for (int flag; (flag = getopt(count, values, "p:a:b:o:VE:l:r:R:M:t:")) != -1;) {
        switch (flag) {
        case 'p': port = atoi(optarg); break;
        case 'a': address = optarg; break;
        case 'b': store_add_bucket(optarg, false); break;
        case 'o': add_sources(optarg); break;
        case 'V': options.checking = true; break;
        case 'E': store_add_bucket(optarg, true); break;
        case 'l': pace.first_byte_ms = atoi(optarg); break;
        case 'r': pace.bytes_per_second = strtoull(optarg, NULL, 10) << 20; break;
        case 'R': pace.link_bytes_per_second = strtoull(optarg, NULL, 10) << 20; break;
        case 'M': pace.complete_ms = atoi(optarg); break;
        case 't':
            key = strchr(optarg, ':');
            if (key) *key++ = 0;
            with_tls = key && tls_setup(optarg, key);
            if (with_tls) break;
            fprintf(stderr, "-t wants certificate.pem:key.pem and a build with -DWITH_TLS\n");
            return 2;
        default: return 2;
        }
    }
    pattern_make();
    accept_forever(listen_on(address, port));
}
