"""Admission: what users write is judged before it is stored, so that an error is told to who makes it."""
