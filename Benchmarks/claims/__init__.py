"""What the papers on layer normalization claim, beside what is seen when small models train."""
