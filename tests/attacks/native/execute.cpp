// Execute shells, programs with special rights, and the loader with something that it could load.
#include <initializer_list>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main() {
    const char *paths[] = {"/bin/sh", "/usr/bin/sh", "/usr/bin/env", "/usr/bin/su", "/usr/bin/mount",
                           "/usr/bin/id", "/dev/null"};
    for (const char *path : paths) {
        char *words[] = {(char *)path, (char *)"-c", (char *)"echo executed", nullptr};
        execv(path, words);
        int descriptor = open(path, O_PATH | O_CLOEXEC);
        if (descriptor >= 0) syscall(SYS_execveat, descriptor, "", words, nullptr, 0x1000);
    }
    for (const char *loader : {"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"}) {
        char *words[] = {(char *)loader, (char *)"/bin/sh", (char *)"-c", (char *)"echo loaded", nullptr};
        if (open("/bin/sh", O_RDONLY) >= 0) execv(loader, words);
    }
}
