"""People's own data, as other programs keep it, turned into our rows: containers, layouts, pictures, the verb."""
