"""Translate raw text: python translate.py [TEXT ...] [--workdir DIR] [options]."""
