"""People's data as rows, whatever the file, and rows as requests."""
