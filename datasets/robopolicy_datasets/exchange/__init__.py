"""Import from other formats, one module a format."""
