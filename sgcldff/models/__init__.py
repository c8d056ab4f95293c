"""Networks, their training, the runtimes that execute them, and their files."""
