"""What a cell may say, and how it is read: options, parsing, declaring, checks, and the plan of an edit."""
