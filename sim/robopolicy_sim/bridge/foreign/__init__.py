"""What runs in the foreign interpreter. This folder is on its path; nothing here imports robopolicy."""
