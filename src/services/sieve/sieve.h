#ifndef SIEVE_H
#define SIEVE_H

#include <stddef.h>

/* Writes the primes below `limit` to `primes`, at most `room` of them; returns how many there are. `limit` is at most SIEVE_LARGEST. */
size_t sieve(unsigned limit, unsigned *primes, size_t room);

#define SIEVE_LARGEST 65536

#endif
