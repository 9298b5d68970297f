"""Bytes in, values out: no paths, no policy. Bad bytes raise `FormatError` with the line or the offset."""
