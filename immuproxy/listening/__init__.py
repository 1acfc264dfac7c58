"""What both listeners share: connections that are taken, bounded and ended, and the certificates they show.

``accepting`` takes connections from a socket, ``connections`` bounds those of one listener and answers what is no HTTP,
``broken`` says what is wrong with it, ``certificates`` follows a pair of files, ``files`` knows how many may be open.
"""
