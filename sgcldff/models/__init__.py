"""Networks, their training, the runtimes that run them, and their files."""
