"""What a person sees of a study: tables, documents, plots, a live view, and one point picked."""
