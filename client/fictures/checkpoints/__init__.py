"""The models that the settings name: which of their files the server loads, fetched from the hub and checked.

`configured.py` says what the settings name, `layouts.py` which of its files are needed, `hub.py` fetches them,
`checks.py` looks at every one, and `pull.py` puts these together. Needs the extra `hub`; nothing here loads a model.
"""
