/* A small HTTP service: answers every GET with a greeting. Listens on the port in the variable PORT, 8080 by default. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hello/response.h"

static int listen_on(unsigned short port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_ANY)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 64) != 0) {
        perror("hello: cannot listen");
        exit(1);
    }
    return listener;
}

/* The request's head, up to its empty line; what follows is of no interest to this service. */
static bool read_request(int connection, char *request, size_t size)
{
    size_t length = 0;
    while (length < size - 1) {
        ssize_t count = read(connection, request + length, size - 1 - length);
        if (count <= 0)
            return false;
        length += (size_t)count;
        request[length] = '\0';
        if (strstr(request, "\r\n\r\n") != NULL)
            return true;
    }
    return false;
}

static void serve(int connection)
{
    char request[4096];
    char response[RESPONSE_SIZE];
    if (!read_request(connection, request, sizeof request))
        return;
    size_t length = write_response(response, request);
    for (size_t sent = 0; sent < length;) {
        ssize_t count = write(connection, response + sent, length - sent);
        if (count <= 0)
            return;
        sent += (size_t)count;
    }
}

int main(void)
{
    const char *text = getenv("PORT");
    unsigned short port = (unsigned short)(text != NULL ? atoi(text) : 8080);
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(port);
    printf("hello: listening on port %d\n", port);
    fflush(stdout);
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            perror("hello: accept");
            return 1;
        }
        serve(connection);
        close(connection);
    }
}
