"""Making, signing and examining images: the publisher's side."""
