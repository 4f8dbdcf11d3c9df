"""SAAL for boxes: digits to be found on noise, 40x40 pixels; two minutes for three seeds, nothing is downloaded.

Command: python -m experiments.run --config=digits_detection_saal
Protocol: CenterNet of one level, AdamW, cold start; 50 random images, then 4 queries of 50; 400 steps of 16; 3 seeds.
Reference: none is published for this data set; the SAAL authors' text, code and numbers for boxes are not public.
Deviations: those of bccd_saal.
"""

from experiments.configs import _boxes_and_pixels

config = _boxes_and_pixels.config.but(
    task={"max_boxes": 4},
    dataset="digits_detection",
    image_size=None,
    seeds=(1, 2, 3),
    initial_labels=50,
    query_size=50,
    cycles=4,
    steps=400,
    batch_size=16,
    augmentation={"flip": False},
)
