"""What the published SAAL experiments share: ResNet-18 trained by SAM, weights carried over all cycles (CIFAR-10)."""

from experiments.config import checked

config = checked(
    {
        "dataset": "cifar10",
        "seeds": (123, 456, 789),
        "initial_labels": 20,
        "query_size": 10,
        "cycles": 100,
        "epochs": 50,
        "batch_size": 10,
        "pool_subset": 2000,
        "warm_start": True,
        "model": {"name": "resnet18", "width": 64},
        "optimizer": {"name": "sam", "learning_rate": 1e-3, "momentum": 0.9, "rho": 0.05},
        "acquisition": {
            "name": "saal",
            "mode": "max_diversity",
            "labels": "pseudo",
            "rho": 0.05,
            "adaptive": True,
        },
    }
)

# The other published setting: Adam, and every cycle starts from the same initialisation.
adam = {"optimizer": {"name": "adam", "learning_rate": 1e-3}, "warm_start": False}
random = {"acquisition": {"name": "random"}}
