"""The language of cells: options, parsing, declarations, checks of the source, and the plan of an edit."""
