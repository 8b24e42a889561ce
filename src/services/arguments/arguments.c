/* Prints its arguments and its environment and exits with the status that it is asked for: what a platform has to get right. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static int requested_status(int argc, char **argv)
{
    int status = 0;
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "--status=", strlen("--status=")) == 0)
            status = atoi(argv[i] + strlen("--status="));
    return status;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    for (char **variable = environ; *variable != NULL; variable++)
        printf("environment: %s\n", *variable);
    return requested_status(argc, argv);
}
