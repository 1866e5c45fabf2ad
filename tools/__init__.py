"""What the repository's own sessions run; see noxfile.py."""
