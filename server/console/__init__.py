"""Pages and actions for experts and operators."""
