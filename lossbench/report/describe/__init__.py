"""What is known of a registered class: lists, pages, formulas."""
