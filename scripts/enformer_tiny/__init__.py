"""What `make_enformer_tiny.py` and `score_enformer_tiny.py` share."""
