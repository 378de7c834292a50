"""The pocket world: drawn scenes whose every statement can be checked. A guest, as a user's own domain would be."""
