// Start threads with the smallest of stacks until no more can be started.
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

void *wait(void *) {
    for (;;) pause();
}

int main() {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    int started = 0;
    pthread_t thread;
    while (started < 300 && pthread_create(&thread, &small, wait, nullptr) == 0) started++;
    if (started >= 300) printf("%d threads\n", started);
}
