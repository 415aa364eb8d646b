"""Reads the Arrow array of a message as a picture, boxes, a table or a tensor. Keeps and draws nothing.

`series` alone keeps what it reads: the numbers of a topic over time, within bounds.
"""
