"""Side-by-side measurements: each prints ratios from one run; nothing imports them."""
