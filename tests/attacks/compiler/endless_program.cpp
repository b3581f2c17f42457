// Make a program that is larger than any disk.
__asm__(".section .data\n.fill 0x4000000000, 1, 65\n.previous");
char zeros[1L << 33] = {1};
int main() { return zeros[1L << 32]; }
