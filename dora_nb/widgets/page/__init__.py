"""The base of every widget that shows a running dataflow: one protocol, one greeting, one way to end.

`widget` has the protocol at its top. A widget is one `.py` beside one `.js`: the first has a subclass of
`live.LiveWidget` or `stream.StreamWidget`, the second one of `Page` or `View` in page.js.
"""
