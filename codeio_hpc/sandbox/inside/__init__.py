"""What runs inside a jail: the zygote and what its children do. Nothing outside imports these files."""
