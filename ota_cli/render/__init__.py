"""Sinks that show events and results: rich, plain, JSON."""
