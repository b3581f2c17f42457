// Make the preprocessor write more than any memory holds.
#define A(x) x x x x x x x x x x x x x x x x
#define B(x) A(A(A(A(x))))
int main() { return 0 B(B(B(B(+ 1)))); }
