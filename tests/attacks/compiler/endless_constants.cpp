// Make the compiler compute a constant without end.
constexpr unsigned long collatz(unsigned long n) {
    unsigned long steps = 0;
    for (unsigned long from = 1; from < n; from++)
        for (unsigned long at = from; at != 1; at = at % 2 ? 3 * at + 1 : at / 2) steps++;
    return steps;
}
template <unsigned long N> unsigned long many() { if constexpr (N) return collatz(3000 + N) + many<N - 1>(); return 0; }
constexpr unsigned long value = collatz(1000);
int main() { return many<800>() + value; }
