/* The bytes that every virtual object is made of.
 *
 * One random pattern of 67 MiB, repeated; the period is odd in MiB, so that parts that change places change the
 * content.  Each 4 KiB block begins with its own position, so that a receiver knows from the first eight bytes of a
 * part which place of the pattern it should be.  Every object starts at a place that follows from its file name: bytes
 * that end up in the wrong file are noticed, and an object may change its folder and stays the same.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_PERIOD (67ull << 20)
#define PATTERN_BLOCK 4096ull
#define PATTERN_UNKNOWN UINT64_MAX

void pattern_make(void);
int pattern_file(void);                     /* a descriptor of the whole period, for sendfile */
const unsigned char *pattern_data(void);    /* the same, mapped */
uint64_t pattern_start(const char *name);   /* where the object of this name starts */
bool pattern_begins(uint64_t start);        /* can a part start here? */
/* MD5 of `length` bytes from `start`; slow the first time, remembered for the next. */
void pattern_md5(uint64_t start, uint64_t length, unsigned char digest[16]);

/* Compares the bytes of one part as they come. */
struct pattern_check {
    unsigned char first[8];
    uint64_t seen, start;  /* start is known when at least eight bytes were seen and `wrong` is not set */
    bool wrong;
};
/* Where in the pattern the part starts, PATTERN_UNKNOWN if it is none. */
uint64_t pattern_found(const struct pattern_check *check);
void pattern_compare(struct pattern_check *check, const unsigned char *data, size_t length);
