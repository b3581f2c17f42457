// Write, link, make and remove files wherever that could be.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int main() {
    const char *folders[] = {"/tmp", "/dev/shm", "/", "/dev", ".", "/var/tmp", "/usr/lib", "/run", "/etc"};
    char path[64];
    for (const char *folder : folders) {
        snprintf(path, sizeof path, "%s/codeio-attack", folder);
        if (open(path, O_CREAT | O_WRONLY, 0600) >= 0) printf("wrote %s\n", path);
        if (open(folder, O_TMPFILE | O_RDWR, 0600) >= 0) printf("unnamed in %s\n", folder);
        if (mkdir(path, 0700) == 0) printf("made %s\n", path);
        if (symlink("/", path) == 0 || link("/dev/null", path) == 0) printf("linked %s\n", path);
        if (mkfifo(path, 0600) == 0 || mknod(path, S_IFCHR | 0600, 0x101) == 0) printf("node %s\n", path);
        if (unlink(path) == 0 || rmdir(path) == 0 || rename(folder, path) == 0) printf("removed %s\n", path);
        if (truncate(path, 0) == 0 || chmod(folder, 0777) == 0) printf("changed %s\n", path);
    }
}
