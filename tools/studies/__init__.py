"""Study files and what runs them."""
