"""May a candidate replace the champion? An examination in, a verdict with
reasons out.
"""
