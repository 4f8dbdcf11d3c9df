"""SAAL for boxes: blood cells under a microscope (BCCD), 160x120 pixels; a better detector than that of bccd_saal.

Command: python -m experiments.run --config=bccd_large_saal
Data: that of bccd_saal.
Protocol: that of bccd_saal, with a stage more and 300 steps of 8.
Reference: none is published for this data set; the SAAL authors' text, code and numbers for boxes are not public.
Deviations: those of bccd_saal.
"""

from experiments.configs import bccd_saal

config = bccd_saal.config.but(image_size=(120, 160), steps=300, augmentation={"padding": 6}, model={"depth": 4})
