"""The search: ask a sampler, evaluate the candidate, tell the record."""
