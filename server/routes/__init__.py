"""HTTP and WebSocket routes: each translates a request into one call and its result into one
answer.
"""
