"""The process that visitors, experts and operators talk to."""
