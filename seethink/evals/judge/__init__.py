"""The judge: what it is asked, how its replies are read, and how well it judges."""
