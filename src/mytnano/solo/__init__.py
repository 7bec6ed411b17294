"""One model of a recipe by itself (``mytnano train``): planned, trained, and left in a folder."""
