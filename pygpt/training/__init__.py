"""Training and fine-tuning: backward passes in NumPy, the papers' recipes, data, and the loop."""
