"""Tables of summaries and comparisons, and what they say in words."""
