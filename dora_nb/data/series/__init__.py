"""Numbers of messages over time: read, kept within bounds, reduced to what a plot draws. Pure, without a thread.

::

    numbers        the numbers of one message, each with the name of its series
    stamps         when a message is drawn: its stamp, kept in order
    sliding        numpy arrays that grow at the end and lose at the front, bounded
    reduction      first, minimum, maximum and last value of each pixel column; what goes to a page
    topic_series   `TopicSeries` joins them: one topic of a plot
    y_range        the range of the vertical axis
"""
