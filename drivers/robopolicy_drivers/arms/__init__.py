"""Arms: what all of them share (``link``, ``arm``), and one module a vendor."""
