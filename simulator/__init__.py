"""Customers and experts that do not exist: the demo, load, and the proof that the loop improves.

Speaks to the running programs from outside, over the public protocols; imports none of their
modules.
"""
