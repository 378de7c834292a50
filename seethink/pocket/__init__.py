"""The pocket world: drawn scenes whose every statement can be checked. A guest that uses the other rooms as a user would."""
