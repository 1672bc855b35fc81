"""May a candidate that answers a share of the conversations go on, and should it answer all?"""
