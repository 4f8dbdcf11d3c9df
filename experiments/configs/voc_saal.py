"""SAAL for boxes on Pascal VOC 2007 and 2012, by the budgets of LL4AL (Yoo and Kweon, CVPR 2019); for a GPU.

Command: python -m experiments.run --config=voc_saal
Data: the folder VOCdevkit in --data_dir, with VOC2007 (trainval and test) and VOC2012 (trainval) as published.
Protocol: 1,000 random images of the 16,551, then 9 queries of 1,000; 120,000 steps of 32, from scratch; 3 seeds.
Reference: LL4AL ends at mAP .7338 with SSD300 on a VGG-16 pretrained on ImageNet, entropy at .7222, core-set at .7171,
  Random at .7117, by VOC's own average precision.
Deviations: CenterNet of one level without pretraining, AdamW, COCO's 101 points: figures are not comparable with those.
  Never run as it is: its images were not at hand.
"""

from experiments.configs import bccd_saal

config = bccd_saal.config.but(
    task={"max_boxes": 60},
    dataset="VOCdevkit",
    split="trainval2007+trainval2012",
    test_split="test2007",
    image_size=(300, 300),
    seeds=(1, 2, 3),
    initial_labels=1000,
    query_size=1000,
    cycles=9,
    steps=120_000,
    batch_size=32,
    augmentation={"name": "scale_and_flip", "smallest": 0.5, "largest": 2.0},
    model={"width": 64, "depth": 5},
    optimizer={"learning_rate": 5e-4},
)
