/* MD5 (RFC 1321), for the ETags of small objects alone: with it the stub needs no library. */
#pragma once
#include <stddef.h>

/* Writes 32 hexadecimal digits and a NUL. */
void md5_hex(const void *data, size_t length, char hex[33]);
