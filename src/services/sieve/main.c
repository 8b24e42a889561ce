/* Prints the primes below its argument, and ends with how many there are as its exit status. */

#include <stdio.h>
#include <stdlib.h>

#include "sieve.h"

#define MOST 200

int main(int argc, char **argv)
{
    unsigned primes[MOST];
    char *end = NULL;
    unsigned long limit = argc == 2 ? strtoul(argv[1], &end, 10) : 0;

    if (end == NULL || *end != '\0' || limit > SIEVE_LARGEST) {
        fprintf(stderr, "usage: sieve LIMIT (at most %d)\n", SIEVE_LARGEST);
        return 255;
    }
    size_t count = sieve((unsigned)limit, primes, MOST);
    for (size_t i = 0; i < count && i < MOST; i++)
        printf("%u%c", primes[i], i + 1 < count && i + 1 < MOST ? ' ' : '\n');
    return count < 255 ? (int)count : 255;
}
