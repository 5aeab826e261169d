"""Inference executors: the plain models' weights, run faster and tested to give the same."""
