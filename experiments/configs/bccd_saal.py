"""SAAL for boxes: blood cells under a microscope (BCCD), 80x60 pixels; six minutes a method on two CPU cores.

Command: python -m experiments.run --config=bccd_saal
Data: the folder bccd in --data_dir, as docs/data.md describes it (github.com/Shenggan/BCCD_Dataset, MIT).
Protocol: CenterNet of one level, AdamW, cold start; 5 random images, then 5 queries of 5; 450 steps of 8; 5 seeds.
Reference: none is published for this data set; the SAAL authors' text, code and numbers for boxes are not public.
Deviations: the score is our reading: the detection loss at the model's own boxes above `threshold` after the ascent.
"""

from experiments.configs import _boxes_and_pixels

config = _boxes_and_pixels.config
