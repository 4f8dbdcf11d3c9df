"""SAAL for pixels across a domain: camvid_day_dusk_saal at 240x180 pixels, with RIPU's budget; for a GPU.

Command: python -m experiments.run --config=camvid_day_dusk_saal_full
Data: that of camvid_day_dusk_saal.
Protocol: U-Net of four stages, width 64, AdamW; source alone, then 5 queries of 52 of 62 x 192 regions of 15x15 pixels,
  2.2 % of all in the end; 4,000 steps of 2 + 2 frames before and after each, weights carried over; 5 seeds.
Reference: none is published for this split; the SAAL authors' text, code and numbers for pixels are not public.
Deviations: those of camvid_day_dusk_saal. RIPU (Xie et al., CVPR 2022) splits its 2.2 % equally between the images and
  takes the best windows of each; here all regions compete. Never run as it is: on a CPU it takes days.
"""

from experiments.configs import camvid_day_dusk_saal

config = camvid_day_dusk_saal.config.but(
    task={"rows": 12, "columns": 16},
    image_size=(180, 240),
    query_size=52,
    steps=4000,
    batch_size=4,
    augmentation={"name": "scale_and_flip"},
    model={"width": 64, "depth": 4},
    optimizer={"learning_rate": 1e-3},
)
