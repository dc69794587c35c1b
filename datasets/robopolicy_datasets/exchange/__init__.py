"""Import from other formats and export to them, one module or package a format."""
