/* Takes memory until there is none. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    printf("exhaust: taking memory\n");
    fflush(stdout);
    for (;;) {
        char *block = malloc(1 << 20);
        if (block != NULL)
            memset(block, 1, 1 << 20);
    }
}
