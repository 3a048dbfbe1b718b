"""What the command line of `admin.py` stands on.

database.py  a running plugin's calls
vectors.py   vectors to a file, and back
folder.py    a folder of this machine: read through, copied, put back
shown.py     for people: tables, sizes, progress
"""
