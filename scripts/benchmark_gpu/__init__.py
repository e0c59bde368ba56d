"""Measures the models at their real sizes, with random weights, which are as fast as others: nothing is downloaded."""
