"""The op-config patterns, one module each."""
