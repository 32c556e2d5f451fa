#define _GNU_SOURCE
#include "pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int descriptor;
static unsigned char *bytes;

void pattern_make(void) {
    descriptor = memfd_create("pattern", MFD_CLOEXEC);
    if (descriptor < 0 || ftruncate(descriptor, PATTERN_PERIOD)) {
        perror("pattern");
        exit(1);
    }
    bytes = mmap(NULL, PATTERN_PERIOD, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (bytes == MAP_FAILED) {
        perror("pattern");
        exit(1);
    }
    uint64_t state = 88172645463325252ull, *words = (uint64_t *)bytes;
    for (uint64_t i = 0; i < PATTERN_PERIOD / 8; i++) {  /* xorshift64 */
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        words[i] = i % (PATTERN_BLOCK / 8) ? state : i * 8;
    }
}

int pattern_file(void) { return descriptor; }
const unsigned char *pattern_data(void) { return bytes; }

uint64_t pattern_start(const char *name) {
    const char *slash = strrchr(name, '/');
    uint64_t hash = 14695981039346656037ull;  /* FNV-1a */
    for (name = slash ? slash + 1 : name; *name; name++) hash = (hash ^ (unsigned char)*name) * 1099511628211ull;
    return hash % (PATTERN_PERIOD / PATTERN_BLOCK) * PATTERN_BLOCK;
}

void pattern_compare(struct pattern_check *check, const unsigned char *data, size_t length) {
    while (length && check->seen < 8) {
        check->first[check->seen++] = *data++;
        length--;
        if (check->seen < 8) continue;
        memcpy(&check->start, check->first, 8);
        check->wrong = check->start >= PATTERN_PERIOD || check->start % PATTERN_BLOCK;
    }
    while (length && !check->wrong) {
        uint64_t at = (check->start + check->seen) % PATTERN_PERIOD;
        size_t n = length < PATTERN_PERIOD - at ? length : PATTERN_PERIOD - at;
        check->wrong = memcmp(bytes + at, data, n) != 0;
        check->seen += n, data += n, length -= n;
    }
}
