"""Recipe searches: the best training recipe of one network, by Ray Tune."""
