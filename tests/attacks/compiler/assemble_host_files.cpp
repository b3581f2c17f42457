// Let the assembler read a file of the host as its own source, and complain about its lines.
__asm__(".include \"/etc/passwd\"");
int main() {}
