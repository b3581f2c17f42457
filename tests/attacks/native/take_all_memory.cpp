// Take all memory and touch it.
#include <string.h>
#include <vector>

int main() {
    std::vector<char *> kept;
    for (;;) {
        kept.push_back(new char[8 << 20]);
        memset(kept.back(), 1, 8 << 20);
    }
}
