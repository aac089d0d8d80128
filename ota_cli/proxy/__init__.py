"""The caching proxy: ECUs without internet access download through the one that has it."""
