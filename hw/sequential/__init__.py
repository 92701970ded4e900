"""The smallest core: the same commands, one thing at a time."""
