"""Pure functions: bytes and values in, values out. No effects."""
