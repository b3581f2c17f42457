// Open sockets of every family, and reach others through an unnamed pair.
#include <initializer_list>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main() {
    for (int family = 0; family < 46; family++)
        for (int kind : {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET})
            if (socket(family, kind, 0) >= 0) printf("family %d\n", family);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0) {
        sockaddr_un name = {AF_UNIX, ""};
        memcpy(name.sun_path, "\0codeio", 7);
        auto *address = (sockaddr *)&name;
        if (bind(pair[0], address, 9) == 0) puts("bind");
        if (connect(pair[0], address, 9) == 0) puts("connect");
        if (sendto(pair[0], "x", 1, 0, address, 9) >= 0) puts("sendto");
        msghdr message = {};
        if (sendmsg(pair[0], &message, 0) >= 0) puts("sendmsg");
        if (accept(pair[1], nullptr, nullptr) >= 0) puts("accept");
    }
}
