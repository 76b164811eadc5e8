// Normally distributed random numbers, the same on every machine for the same seed.
#ifndef NORMAL_H
#define NORMAL_H

#include <stdint.h>

struct normal {
    uint64_t state[4];  // xoshiro256**
    double spare;       // second number of the last pair
    int has_spare;
};

// Seeds from a text of hex digits (a task id, with or without 0x). Returns 0, or -1 if it is not 64 hex digits.
int seed_normal(struct normal *normal, const char *hex);

// The next number of mean 0 and variance 1.
double next_normal(struct normal *normal);

#endif
