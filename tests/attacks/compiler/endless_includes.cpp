// Make the preprocessor read itself, twice in every round.
#include "source.cpp"
#include "source.cpp"
int main() {}
