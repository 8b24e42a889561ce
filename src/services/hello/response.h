#ifndef HELLO_RESPONSE_H
#define HELLO_RESPONSE_H

#include <stddef.h>

enum { RESPONSE_SIZE = 8192 };

/* Writes the response to a request's head; returns its length, less than RESPONSE_SIZE. */
size_t write_response(char response[RESPONSE_SIZE], const char *request);

#endif
