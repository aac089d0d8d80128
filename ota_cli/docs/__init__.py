"""Documents made from the program itself: man pages, completions, the README's tables."""
