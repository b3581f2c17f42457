// Ask the preprocessor which files the host has, and compile only if it has one.
#if !(__has_include("/etc/passwd") || __has_include("/etc/shadow") || __has_include("/etc/hostname") || __has_include("/proc/1/stat"))
#error none of them
#endif
int main() {}
