"""SAAL for pixels across a domain: shapes to be outlined, 32x32 pixels; nothing is downloaded.

Command: python -m experiments.run --config=shapes_segmentation_saal
Protocol: U-Net, AdamW; 400 labelled images of light shapes on dark ground, then 4 queries of 80 of 400 x 16 regions of
  images with less contrast, of either sign, and more noise; 300 steps of 8 + 8 images after each, weights carried over.
Reference: none is published for this data set; the SAAL authors' text, code and numbers for pixels are not public.
Deviations: those of camvid_day_dusk_saal.
"""

from experiments.configs import _boxes_and_pixels

config = _boxes_and_pixels.segmentation.but(
    task={"rows": 4, "columns": 4},
    dataset="shapes",
    source="shapes",
    source_split="source",
    source_test_split="source_test",
    image_size=None,
    seeds=(1, 2, 3),
    query_size=80,
    cycles=4,
    steps=300,
    batch_size=16,
    model={"stride": 1},
)
