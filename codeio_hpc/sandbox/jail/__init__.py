"""One running jail: how it is built at each isolation level, proved, and spoken to."""
