// Fork through the 32-bit gate of the kernel, past a filter that knows the 64-bit numbers only.
#include <stdlib.h>

int main() {
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(2) : "memory");
    return (int)result;
#else
    abort();
#endif
}
