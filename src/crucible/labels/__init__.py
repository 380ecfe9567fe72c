"""The kinds of label: one file each, owning everything that differs between them."""
