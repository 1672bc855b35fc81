"""Several rounds in a row, measured by the hidden satisfaction: does the loop work, and what does
each of its defences give?
"""
