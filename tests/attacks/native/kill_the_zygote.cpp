// Kill, stop and limit the zygote and its group, and itself so that it looks as if the node had done it.
#include <initializer_list>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main() {
    pid_t zygote = getppid() ? getppid() : 1;
    rlimit none = {0, 0};
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    for (int number : {SIGKILL, SIGSTOP, SIGINT, SIGTERM}) {
        if (zygote != getpid() && kill(zygote, number) == 0) puts("killed");
        if (kill(0, number) == 0) puts("killed the group");
        if (syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number) == 0) puts("killed itself");
    }
    if (zygote != getpid() && prlimit(zygote, RLIMIT_NOFILE, &none, nullptr) == 0) puts("limited");
    if (sched_setaffinity(zygote, sizeof one, &one) == 0) puts("bound");
    if (setpriority(PRIO_PROCESS, zygote, 19) == 0) puts("slowed");
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0) puts("death signal");
    timer_t timer;
    sigevent event = {};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGKILL;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) puts("timer");
}
