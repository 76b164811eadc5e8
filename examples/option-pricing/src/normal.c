#include "normal.h"

#include <math.h>
#include <string.h>

static const double TAU = 6.283185307179586476925286766559;

// splitmix64: the recommended way to fill the state of xoshiro from a seed.
static uint64_t splitmix(uint64_t *seed) {
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

int seed_normal(struct normal *normal, const char *hex) {
    if (strncmp(hex, "0x", 2) == 0) hex += 2;
    if (strlen(hex) != 64) return -1;
    uint64_t seed = 0;
    for (int word = 0; word < 4; word++) {
        uint64_t value = 0;
        for (int i = 0; i < 16; i++) {
            int d = digit(hex[16 * word + i]);
            if (d < 0) return -1;
            value = value << 4 | (uint64_t)d;
        }
        seed ^= value;
        seed = splitmix(&seed);  // every bit of the id reaches every bit of the state
    }
    for (int i = 0; i < 4; i++) normal->state[i] = splitmix(&seed);
    normal->has_spare = 0;
    return 0;
}

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static uint64_t next_bits(uint64_t s[4]) {
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

// Uniform in (0, 1]: zero would have no logarithm.
static double next_uniform(uint64_t s[4]) { return (double)((next_bits(s) >> 11) + 1) * 0x1p-53; }

// Box-Muller: two uniform numbers give two independent normal ones.
double next_normal(struct normal *normal) {
    if (normal->has_spare) {
        normal->has_spare = 0;
        return normal->spare;
    }
    double radius = sqrt(-2 * log(next_uniform(normal->state)));
    double angle = TAU * next_uniform(normal->state);
    normal->spare = radius * sin(angle);
    normal->has_spare = 1;
    return radius * cos(angle);
}
