"""What another rules file would have said."""
