/* Looks at the root file system from the inside: files that were laid out in place have to be ordinary files. The first argument is a
 * large one. Prints a line for each thing that is as it should be. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void expect(int holds, const char *what)
{
    printf("%s: %s\n", holds ? "yes" : "NO", what);
}

static long free_kib(void)
{
    char line[128];
    long kib = -1;
    FILE *file = fopen("/proc/meminfo", "r");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "MemFree: %ld", &kib);
    if (file != NULL)
        fclose(file);
    return kib;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "/data/large";
    long page = sysconf(_SC_PAGESIZE);
    char before[4], after[4] = "";
    struct statvfs space;
    struct stat facts;
    int file = open(path, O_RDWR);

    if (file < 0 || fstat(file, &facts) != 0) {
        perror(path);
        return EXIT_FAILURE;
    }
    size_t size = (size_t)facts.st_size, pages = (size + page - 1) / page;
    unsigned char *mapped = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, file, 0);
    int zeros = 1;
    for (size_t at = size; at < pages * page; at++)
        zeros &= mapped[at] == 0;
    expect(memcmp(mapped, "\177ELF", 4) == 0, "the content is there");
    expect(size % page != 0 && zeros, "what follows the end in the last page is zeros");
    expect(facts.st_blocks == (blkcnt_t)(pages * page / 512), "the blocks are counted");

    expect(pread(file, before, 4, size / 2) == 4, "it is read in the middle");
    expect(pwrite(file, "mid!", 4, size / 2) == 4 && pread(file, after, 4, size / 2) == 4, "it is written in the middle");
    expect(memcmp(after, "mid!", 4) == 0 && memcmp(mapped + size / 2, "mid!", 4) == 0, "what was written is there, and in the mapping");
    expect(pwrite(file, "end", 3, size) == 3 && lseek(file, 0, SEEK_END) == (off_t)size + 3, "it grows");
    expect(ftruncate(file, 100) == 0 && fstat(file, &facts) == 0 && facts.st_blocks == page / 512, "it is cut, and its blocks with it");
    munmap(mapped, pages * page);
    close(file);

    long least = free_kib();
    expect(unlink("/data/other") == 0, "a file is removed");
    expect(free_kib() - least > (long)(size / 1024) / 2, "its memory is free");
    expect(mkdir("/data/new", 0700) == 0 && (file = open("/data/new/file", O_CREAT | O_RDWR, 0600)) >= 0, "new files are made");
    memset(before, 'x', sizeof before);
    expect(ftruncate(file, 1 << 20) == 0 && pwrite(file, before, 4, (1 << 20) - 4) == 4, "and written");
    expect(statvfs("/", &space) == 0 && space.f_bavail > 0 && space.f_bfree <= space.f_blocks, "there is space left");
    expect(stat("/data/program", &facts) == 0 && (facts.st_mode & 07777) == 04711, "a mode is as declared");
    expect(stat("/tmp", &facts) == 0 && (facts.st_mode & 07777) == 01777, "/tmp is everybody's");
    return EXIT_SUCCESS;
}
