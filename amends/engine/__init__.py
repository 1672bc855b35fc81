"""Several visitors and several policy versions in one batch: the server answers with it, the
trainer samples with it."""
