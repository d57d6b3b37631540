"""Running a measurement to its end."""

from starsearch.progress import follow


def run(generator):
    """What a generator yields, and what it returns."""
    yielded = []
    return yielded, follow(generator, yielded.append)
