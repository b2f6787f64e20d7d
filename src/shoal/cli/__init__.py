"""The command line: one module a group of commands; holds a Client, nothing else."""
