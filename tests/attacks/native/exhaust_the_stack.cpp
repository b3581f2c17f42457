// Recurse without end.
#include <stdio.h>

__attribute__((noinline)) int deeper(volatile int *before) {
    volatile int here[256];
    here[0] = before ? before[0] + 1 : 0;
    return deeper(here) + here[255];
}

int main() { printf("%d\n", deeper(nullptr)); }
