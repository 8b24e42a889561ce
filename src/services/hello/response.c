#include "hello/response.h"

#include <stdio.h>
#include <string.h>

size_t write_response(char response[RESPONSE_SIZE], const char *request)
{
    char path[256] = "";
    char body[512];
    int is_get = sscanf(request, "GET %255s HTTP/1.", path) == 1;
    int body_length = snprintf(body, sizeof body, is_get ? "Hello from a unikernel at %s\n" : "Only GET is known here\n", path);
    int length = snprintf(response, RESPONSE_SIZE,
                          "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
                          is_get ? "200 OK" : "405 Method Not Allowed", body_length, body);
    return (size_t)length;
}
