"""Codecs and the table of hosts: bytes in, bytes out, no I/O. One file for each wire."""
