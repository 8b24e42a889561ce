/* Ends in the way that its argument names. */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEBIBYTE = 1 << 20, FLOOD_LINES = 100000, FLOOD_WIDTH = 52 };

/* Where the optimiser cannot see what is in it. */
static volatile int *nowhere;
static volatile int zero;

static __attribute__((noinline)) void store(int value)
{
    *nowhere = value;
    __asm__ volatile("");
}

static __attribute__((noinline)) void fault(int value)
{
    store(value + 1);
    __asm__ volatile("");
}

static __attribute__((noinline)) int recurse(int depth)
{
    volatile char room[256];
    room[0] = (char)depth;
    return depth == zero ? 0 : recurse(depth + 1) + room[0];
}

static int compare(const void *one, const void *other)
{
    fault(*(const int *)one - *(const int *)other);
    return 0;
}

static void *run_thread(void *argument)
{
    fault(*(int *)argument);
    return NULL;
}

/* Half of it on standard output, half on standard error, up to the very end. */
static void flood(void)
{
    for (int line = 0; line < FLOOD_LINES; line++) {
        printf("output %0*d\n", FLOOD_WIDTH - 8, line);
        fprintf(stderr, "error  %0*d\n", FLOOD_WIDTH - 8, line);
    }
}

static void take(size_t mebibytes)
{
    for (; mebibytes > 0; mebibytes--) {
        volatile char *memory = malloc(MEBIBYTE);
        for (size_t at = 0; memory != NULL && at < MEBIBYTE; at += 4096)
            memory[at] = 1;
    }
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    int numbers[] = {3, 1, 2};
    pthread_t thread;
    if (strcmp(way, "fault") == 0)
        fault(argc);
    else if (strcmp(way, "large") == 0)
        take((size_t)atoi(argv[2])), fault(argc);
    else if (strcmp(way, "library") == 0)
        qsort(numbers, 3, sizeof *numbers, compare);
    else if (strcmp(way, "thread") == 0)
        pthread_create(&thread, NULL, run_thread, numbers), pthread_join(thread, NULL);
    else if (strcmp(way, "recursion") == 0)
        return recurse(argc);
    else if (strcmp(way, "nowhere") == 0)
        ((void (*)(int))nowhere)(argc);
    else if (strcmp(way, "divide") == 0)
        return argc / zero;
    else if (strcmp(way, "abort") == 0)
        abort();
    else if (strcmp(way, "terminate") == 0)
        raise(SIGTERM);
    else if (strcmp(way, "child") == 0) {
        int status = 0;
        if (fork() == 0)
            fault(argc);
        wait(&status);
        printf("the child ended by signal %d\n", WTERMSIG(status));
    } else if (strcmp(way, "privileges") == 0) {
        if (setgid(1000) == 0 && setuid(1000) == 0)
            fault(argc);
    } else if (strcmp(way, "reopen") == 0) {
        FILE *again = fopen("/dev/stdout", "w");
        if (again == NULL)
            return 1;
        fprintf(again, "opened by user %d\n", (int)getuid());
        fprintf(stderr, "terminals: %d %d %d\n", isatty(0), isatty(1), isatty(2));
    } else if (strcmp(way, "flood") == 0)
        flood();
    return 0;
}
