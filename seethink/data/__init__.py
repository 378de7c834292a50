"""From samples to training data: sources, the six steps, the split, and exports to other trainers."""
