"""The reward model: explicit features, a linear head fitted on every kind of feedback, and its
report.
"""
