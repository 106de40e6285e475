"""The page of a study: one self-contained HTML file, and its twin in Markdown."""
