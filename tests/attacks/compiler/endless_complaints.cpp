// Make the compiler complain in megabytes.
#define A(x) x x x x x x x x x x
#define ERROR _Pragma("GCC warning \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"") oops;
A(A(A(A(A(ERROR)))))
int main() {}
