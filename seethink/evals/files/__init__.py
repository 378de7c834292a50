"""Published benchmark files, whatever their container, as records with their pictures."""
