"""The engine: a batch file checked, planned, and run through clients, with its output as journal.

It knows no HTTP server, no database and no command line.
"""
