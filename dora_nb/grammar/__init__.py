"""What the lines of the magics may say. Pure: the magics read it, and so does who reads a notebook's file."""
