"""What is taken from the machine that builds: Python interpreters and shared libraries, described first and captured then.

A description is cheap and says what is there, by digest. A capture copies just that. So a build system can look at the machine each
time, and reuse everything as long as the description is the same.
"""
