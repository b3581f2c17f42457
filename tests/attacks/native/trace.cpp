// Trace, be traced, read and write the memory of the zygote, and take its descriptors.
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int main() {
    pid_t zygote = getppid() ? getppid() : 1;
    char byte = 0;
    iovec here = {&byte, 1};
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) == 0) puts("traced");
    if (ptrace(PTRACE_ATTACH, zygote, 0, 0) == 0) puts("attached");
    if (ptrace(PTRACE_SEIZE, zygote, 0, 0) == 0) puts("seized");
    if (process_vm_readv(zygote, &here, 1, &here, 1, 0) > 0) puts("read");
    if (process_vm_writev(zygote, &here, 1, &here, 1, 0) > 0) puts("wrote");
    if (syscall(SYS_pidfd_open, zygote, 0) >= 0) puts("pidfd");
    for (int number = 0; number < 64; number++)
        if (syscall(SYS_pidfd_getfd, number, 11, 0) >= 0) puts("took a descriptor");
    if (syscall(SYS_kcmp, getpid(), zygote, 0, 0, 0) >= 0) puts("compared");
}
