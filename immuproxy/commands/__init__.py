"""The commands beside ``serve``, ``check`` and ``explain``: each a file of its own, imported when it is called.

``options`` holds what they share on the command line, ``running`` how one is carried out (the file read, parts opened,
failures put into words, the exit status), ``screen`` everything that reaches the terminal.  A command opens parts, asks
other rooms, and shows what they answer; it decides nothing.

Standard output has the result, and nothing else; all other words and the progress bars go to standard error.
Exit status: 0 done, 1 something is wrong or could not be done, 2 a wrong command line or a wrong file, 130 interrupted.
"""
