"""The process that learns: Celery tasks that watch, and the trainer process that they watch."""
