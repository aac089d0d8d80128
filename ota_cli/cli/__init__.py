"""The command line: one small file a verb; the only error boundary."""
