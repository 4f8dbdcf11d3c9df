"""SAAL for pixels across a domain: streets by day are labelled, at dusk regions of frames are bought (CamVid, 80x60).

Command: python -m experiments.run --config=camvid_day_dusk_saal
Data: the folder camvid in --data_dir, as docs/data.md describes it (Brostow et al. 2009).
Protocol: U-Net, AdamW; 600 steps on 406 frames by day, then 5 queries of 60 of 62 x 48 regions of frames at dusk (2 %
  of their pixels each), 600 steps of 4 + 4 frames after each, weights carried over; 5 seeds.
Reference: none is published for this split; the SAAL authors' text, code and numbers for pixels are not public.
Deviations: the score is our reading: the map of losses after one ascent for the image, averaged over each region.
"""

from experiments.configs import _boxes_and_pixels

config = _boxes_and_pixels.segmentation.but(
    task={"rows": 6, "columns": 8},
    split="pool",
    test_split="target_test",
    source_split="source",
    source_test_split="source_test",
    query_size=60,
    steps=600,
)
