"""The dataflow of a notebook, as Python code sees it: declare, run, watch, and exchange messages."""
