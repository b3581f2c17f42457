"""Read from its output and its messages, write to its input, and open them anew by other names."""

import os

for descriptor in (1, 2, 3):
    try:
        os.read(descriptor, 1)
        print("read from", descriptor)
    except OSError:
        continue
try:
    os.write(0, b"forged")
    print("wrote to the input")
except OSError:
    pass
for path in ("/dev/stdin", "/dev/stdout", "/dev/fd/0", "/dev/fd/1", "/proc/self/fd/0", "/proc/self/fd/1"):
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        try:
            os.open(path, flags)
            print(path, flags)
        except OSError:
            continue
