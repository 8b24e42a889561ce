#include "sieve.h"

#include <stdbool.h>

static bool composite[SIEVE_LARGEST];

size_t sieve(unsigned limit, unsigned *primes, size_t room)
{
    size_t count = 0;

    for (unsigned number = 2; number < limit; number++) {
        if (composite[number])
            continue;
        if (count < room)
            primes[count] = number;
        count++;
        for (unsigned multiple = 2 * number; multiple < limit; multiple += number)
            composite[multiple] = true;
    }
    return count;
}
