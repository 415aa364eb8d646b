"""What is measured, and how: each module here is a program of its own, run from the repository's folder."""
