/* MD5 (RFC 1321), for ETags alone: with it the stub needs no library. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct md5 {
    uint32_t state[4];
    uint64_t length;
    unsigned char tail[64];  /* length % 64 bytes that do not fill a block yet */
};

void md5_begin(struct md5 *md5);
void md5_add(struct md5 *md5, const void *data, size_t length);
void md5_end(struct md5 *md5, unsigned char digest[16]);
/* 32 hexadecimal digits and a NUL. */
void md5_print(const unsigned char digest[16], char hex[33]);
/* All of it in one call. */
void md5_hex(const void *data, size_t length, char hex[33]);
