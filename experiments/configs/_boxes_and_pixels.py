"""What the experiments with boxes and with pixels share. `config`: a small detector, trained anew in every cycle."""

from experiments.schema import validated

config = validated(
    {
        "task": {"name": "detection", "max_boxes": 30},
        "dataset": "bccd",
        "image_size": (60, 80),
        "seeds": (1, 2, 3, 4, 5),
        "initial_labels": 5,
        "initial_selection": {"name": "random"},
        "query_size": 5,
        "cycles": 5,
        "steps": 450,
        "batch_size": 8,
        "warm_start": False,
        "augmentation": {"name": "crop_and_flip", "padding": 3},
        "model": {"name": "center_net"},
        "optimizer": {"name": "adamw", "learning_rate": 4e-3, "schedule": "one_cycle"},
        "acquisition": {"name": "saal", "mode": "max"},
    }
)

# A segmenter that knows another domain already, and carries its weights over.
segmentation = config.but(
    task={"name": "segmentation"},
    warm_start=True,
    initial_labels=0,
    model={"name": "unet"},
    source="camvid",
    dataset="camvid",
    optimizer={"learning_rate": 5e-3},
)
