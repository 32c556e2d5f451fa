#include "md5.h"

#include <stdio.h>
#include <string.h>

static const uint32_t sines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
static const int shifts[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};


/* Sixteen steps; `MIX` and the order of words are the round's. */
#define ROUND(number, MIX, WORD) \
    for (int i = 0; i < 16; i++) { \
        uint32_t sum = a + (MIX) + sines[16 * number + i] + words[(WORD) % 16]; \
        int shift = shifts[number][i % 4]; \
        a = d, d = c, c = b; \
        b += sum << shift | sum >> (32 - shift); \
    }

static void add_block(uint32_t state[4], const unsigned char *block) {
    uint32_t words[16], a = state[0], b = state[1], c = state[2], d = state[3];
    memcpy(words, block, sizeof words);  /* little-endian machines alone, as everything that we run on */
    ROUND(0, (b & c) | (~b & d), i)
    ROUND(1, (d & b) | (~d & c), 5 * i + 1)
    ROUND(2, b ^ c ^ d, 3 * i + 5)
    ROUND(3, c ^ (b | ~d), 7 * i)
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
}

void md5_begin(struct md5 *md5) {
    *md5 = (struct md5){.state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}};
}

void md5_add(struct md5 *md5, const void *data, size_t length) {
    const unsigned char *bytes = data;
    while (length) {
        size_t filled = md5->length % 64, taken = 64;
        if (!filled && length >= 64) {
            add_block(md5->state, bytes);
        } else {
            taken = length < 64 - filled ? length : 64 - filled;
            memcpy(md5->tail + filled, bytes, taken);
            if (filled + taken == 64) add_block(md5->state, md5->tail);
        }
        md5->length += taken, bytes += taken, length -= taken;
    }
}

void md5_end(struct md5 *md5, unsigned char digest[16]) {
    static const unsigned char padding[64] = {0x80};
    uint64_t bits = md5->length * 8;
    md5_add(md5, padding, (119 - md5->length % 64) % 64 + 1);  /* up to eight bytes before the end of a block */
    md5_add(md5, &bits, 8);
    memcpy(digest, md5->state, 16);
}

void md5_print(const unsigned char digest[16], char hex[33]) {
    for (int i = 0; i < 16; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
}

void md5_hex(const void *data, size_t length, char hex[33]) {
    struct md5 md5;
    unsigned char digest[16];
    md5_begin(&md5);
    md5_add(&md5, data, length);
    md5_end(&md5, digest);
    md5_print(digest, hex);
}
