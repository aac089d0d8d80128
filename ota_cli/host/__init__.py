"""Effects on this machine and its network, each in one place."""
