"""Print without end."""

while True:
    print("x" * 65536)
