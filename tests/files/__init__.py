"""Files and uploads. What a long one costs is printed by

.venv/bin/python -m tests.files [MB]
"""
