"""SAAL for boxes: defects of hot-rolled steel (NEU-DET), 192x192 pixels; for a GPU.

Command: python -m experiments.run --config=neu_det_saal
Data: the folder neu_det in --data_dir, as docs/data.md describes it (Song and Yan, Northeastern University, Shenyang).
Protocol: CenterNet of four stages, width 64, AdamW, cold start; 72 random images (5 %), then 6 queries of 72; 12,000
  steps of 32; 5 seeds.
Reference: none is published from scratch; detectors on pretrained networks are commonly reported at 70 to 80 % mAP50.
Deviations: those of bccd_saal. Never run as it is: on a CPU it takes weeks.
"""

from experiments.configs import bccd_saal

config = bccd_saal.config.but(
    task={"max_boxes": 10},
    dataset="neu_det",
    image_size=(192, 192),
    initial_labels=72,
    query_size=72,
    cycles=6,
    steps=12_000,
    batch_size=32,
    augmentation={"name": "scale_and_flip"},
    model={"width": 64, "depth": 4},
    optimizer={"learning_rate": 5e-4},
)
