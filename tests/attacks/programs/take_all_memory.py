"""Take all memory and catch every error that comes of it."""

kept = []
while True:
    try:
        while True:
            kept.append(bytearray(16 << 20))
    except MemoryError:
        kept.append(None)
