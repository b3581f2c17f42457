// Include the compiler's own environment, and with it perhaps the worker's.
#include "/proc/self/environ"
int main() {}
