"""The rules in force, and what each holds."""
