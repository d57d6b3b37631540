"""The use cases: what the command line and a notebook call; `starsearch` itself exports the public ones."""
