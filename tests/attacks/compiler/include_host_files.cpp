// Include a file of the host, whose lines the compiler would show in its complaints.
#include "/etc/passwd"
int main() {}
