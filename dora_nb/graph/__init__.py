"""The declared dataflow: nodes, what they read, and what follows from it. Pure and immutable."""
