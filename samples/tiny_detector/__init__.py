"""A small detector for the things on the rendered table of `scene.py`; see README.md beside this file."""
