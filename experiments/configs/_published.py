"""What published experiments share. `config`: SAAL's, ResNet-18 trained by SAM, weights carried over all cycles."""

from experiments.schema import validated

config = validated(
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

# What the other papers share: SGD at .1 on batches of 128 for 200 epochs, a first set drawn at random.
sgd = config.but(
    initial_selection={"name": "random"},
    epochs=200,
    batch_size=128,
    pool_subset=None,
    warm_start=False,
    augmentation={"name": "crop_and_flip"},
    optimizer={"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "step"},
    acquisition={"name": "random"},
)
stconal = sgd.but(optimizer={"schedule": "constant"}, recipe={"name": "snapshots"}, acquisition={"name": "st_conal"})
ll4al = sgd.but(recipe={"name": "loss_prediction"}, acquisition={"name": "ll4al"})
sslpm = sgd.but(warm_start=True, recipe={"name": "semi_supervised_loss_prediction"}, acquisition={"name": "sslpm"})
cifar10 = {"dataset": "cifar10", "mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
cifar100 = {"dataset": "cifar100", "mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)}
