"""`PlotView`: numbers of topics as lines that scroll.

::

    arguments   which topic is drawn in which pane
    feed        messages in: a `TopicSeries` for each topic path, what was sent to pages, a pause
    condition   the state of the view in words
    still       the picture that a notebook saves
    view        the widget, and the messages between it and view.js
"""
