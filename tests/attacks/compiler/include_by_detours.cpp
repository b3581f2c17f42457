// Include a file of the host by a way that starts at what can be read.
#include "/usr/include/../../etc/passwd"
int main() {}
