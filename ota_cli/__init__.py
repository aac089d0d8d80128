"""`ota` updates whole Linux devices over the air, in A/B slots, over plain HTTPS GET."""

__version__ = "0.1.0"

#: Nothing signed can be older than the client that reads it: the floor for an unset clock.
BUILD_DATE = "2026-11-24T00:00:00Z"
