// Make a file in memory with a program in it and become that, or write to the file it was loaded from itself.
#include <initializer_list>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main() {
    for (unsigned flags : {0u, 1u, 2u, 4u, 8u, 16u})
        if (syscall(SYS_memfd_create, "x", flags) >= 0) puts("memory file");
    if (syscall(SYS_memfd_secret, 0) >= 0) puts("secret memory file");
    if (shm_open("/codeio-attack", O_CREAT | O_RDWR, 0600) >= 0) puts("shared memory");
    for (const char *path : {"/proc/self/exe", "/proc/self/map_files", "/proc/self/mem"})
        if (open(path, O_RDWR) >= 0) puts(path);
    for (int descriptor = 3; descriptor < 64; descriptor++) {
        char byte;
        if (fcntl(descriptor, F_GETFD) >= 0) printf("descriptor %d is open\n", descriptor);
        if (pread(descriptor, &byte, 1, 0) >= 0) printf("read %d\n", descriptor);
        char *words[] = {(char *)"again", nullptr};
        syscall(SYS_execveat, descriptor, "", words, nullptr, 0x1000);
    }
}
