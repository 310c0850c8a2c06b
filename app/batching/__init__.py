"""Joins concurrent requests into batches, and decides who is admitted and who is next. Standard
library alone."""
