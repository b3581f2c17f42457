// Embed files of the host in the program, through the assembler.
__asm__(".section .rodata\n.globl stolen\nstolen:\n.incbin \"/etc/passwd\"\n.previous");
__asm__(".include \"/etc/passwd\"");
extern "C" const char stolen[];
int main() { return stolen[0]; }
