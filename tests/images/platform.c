/* Prints what of the machine and the kernel depends on how an image is configured. */

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    printf("CPUs: %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    printf("IP: %s\n", socket(AF_INET, SOCK_STREAM, 0) < 0 ? "no" : "yes");
    return 0;
}
