# café in Latin-1, long enough to be read as a file of its own kind
x = 1
# and some more text
