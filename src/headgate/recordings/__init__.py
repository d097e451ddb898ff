"""Answers that are recorded while they are given, so that they can be given again, or read on."""
